{{/* The name of the chart's objects. */}}
{{- define "statlink.fullname" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Labels that select the pods. A DaemonSet's selector cannot change. */}}
{{- define "statlink.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default "statlink" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "statlink.labels" -}}
{{ include "statlink.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: statlink
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "statlink.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "statlink.fullname" .) }}
{{- end }}

{{/* Registry, name, and digest or tag. */}}
{{- define "statlink.image" -}}
{{- with .Values.image -}}
{{- with .registry }}{{ trimSuffix "/" . }}/{{ end }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end }}

{{/*
Whether the node's tracefs is mounted: tracepoints take it. The privileged profile mounts one for itself.
*/}}
{{- define "statlink.tracefs" -}}
{{ if and (eq .Values.security.profile "restricted") .Values.security.tracefs (has .Values.connectHook (list "auto" "tracepoints")) }}true{{ end }}
{{- end }}

{{/*
How an agent is named as a target, by both kinds of monitor: as by OTLP. The rules know agents by their job; and
where the agent's own pod made labels, each upgrade would make every series anew, with the old one beside it.
*/}}
{{- define "statlink.relabelings" -}}
- { targetLabel: job, replacement: statlink }
- { sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: instance{{ with .Values.clusterName }}, replacement: {{ printf "%s/$1" . | quote }}{{ end }} }
- { action: labeldrop, regex: pod|container|endpoint|service }
{{- end }}

{{/*
How pods are replaced. Where the next agent can wait beside the one at work, and goes on with all that it leaves, it
comes first.
*/}}
{{- define "statlink.updateStrategy" -}}
{{- $strategy := deepCopy .Values.updateStrategy -}}
{{- if and .Values.pins.enabled .Values.state.hostPath (eq $strategy.type "RollingUpdate") -}}
{{- $share := $strategy.rollingUpdate.maxUnavailable -}}
{{- $_ := set $strategy "rollingUpdate" (dict "maxSurge" $share "maxUnavailable" 0) -}}
{{- end -}}
{{- toYaml $strategy -}}
{{- end }}

{{/* Refuses values that contradict each other, with the key and the cure. */}}
{{- define "statlink.refuse" -}}
{{- if and (hasPrefix "https://" .Values.otlp.endpoint) (not .Values.otlp.tls.secretName) -}}
{{ fail "otlp.tls.secretName: otlp.endpoint is https, and the image has no certificate authorities of its own; name a Secret with ca.crt" }}
{{- end -}}
{{- if and .Values.pins.enabled (not .Values.state.enabled) -}}
{{ fail "state.enabled: pins.enabled is set, and how far what is pinned was told is left with the state; set state.enabled, too" }}
{{- end -}}
{{- if and .Values.state.hostPath (not .Values.state.enabled) -}}
{{ fail "state.enabled: state.hostPath is set, and nothing is left there; set state.enabled, or no state.hostPath" }}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{ fail "serviceAccount.name: serviceAccount.create is false; name the account that the Role is bound to" }}
{{- end -}}
{{- if and .Values.clusterName (hasKey .Values.resourceAttributes "k8s.cluster.name") -}}
{{ fail "resourceAttributes: clusterName sets k8s.cluster.name, too; remove one of them" }}
{{- end -}}
{{- if and .Values.otlp.tls.clientCertificate (not .Values.otlp.tls.secretName) -}}
{{ fail "otlp.tls.clientCertificate: set otlp.tls.secretName to the Secret that has tls.crt and tls.key" }}
{{- end -}}
{{- if and (hasPrefix "http://" .Values.otlp.endpoint) .Values.otlp.tls.secretName -}}
{{ fail "otlp.tls.secretName: otlp.endpoint is http; make it https, or remove the Secret" }}
{{- end -}}
{{- if not (or .Values.otlp.enabled .Values.metrics.enabled) -}}
{{ fail "otlp.enabled: it is false, and so is metrics.enabled; nobody would be told anything; set one of them" }}
{{- end -}}
{{- if and .Values.metrics.from (not (and .Values.metrics.enabled .Values.networkPolicy.enabled)) -}}
{{ fail "metrics.from: it is a rule of the NetworkPolicy for /metrics; set metrics.enabled and networkPolicy.enabled, too" }}
{{- end -}}
{{- range $monitor := list "podMonitor" "serviceMonitor" -}}
{{- if and (get $.Values $monitor).enabled (not $.Values.metrics.enabled) -}}
{{ fail (printf "%s.enabled: metrics.enabled is false, so there is nothing to scrape; set that, too" $monitor) }}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{ fail "serviceMonitor.enabled: podMonitor.enabled has each agent scraped already; remove one of them" }}
{{- end -}}
{{- $set := dict -}}
{{- range include "statlink.env" . | fromYamlArray }}{{ $_ := set $set .name true }}{{ end -}}
{{- $instead := dict "OTEL_EXPORTER_OTLP_ENDPOINT" "otlp.endpoint" "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" "otlp.endpoint" "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" "otlp.endpoint" "OTEL_METRIC_EXPORT_INTERVAL" "otlp.exportInterval" -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $instead .name -}}
{{ fail (printf "extraEnv: %s has no effect beside %s; set that instead" .name (get $instead .name)) }}
{{- end -}}
{{- if hasKey $set .name -}}
{{ fail (printf "extraEnv: %s has a value of its own in this chart; set that instead" .name) }}
{{- end -}}
{{- end -}}
{{- end }}
