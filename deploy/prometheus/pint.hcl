# For pint, which lints the rules: pint --config deploy/prometheus/pint.hcl lint deploy/prometheus/rules
checks {
  # Groups have intervals of their own here, so rules do read what another group records: at most one
  # interval old.
  disabled = ["rule/dependency"]
}
