{{/*
What a value may refer to as $(NAME), as otlp.endpoint does for a Collector on each node. It stands before
its users, because Kubernetes expands only what stands before. One that extraEnv sets itself is left out.
*/}}
{{- define "statlink.references" -}}
{{- $own := dict -}}
{{- range .Values.extraEnv }}{{ $_ := set $own .name true }}{{ end -}}
{{- $fields := list (list "NODE_NAME" "spec.nodeName") (list "NODE_IP" "status.hostIP") (list "HOST_IP" "status.hostIP") (list "POD_NAME" "metadata.name") (list "POD_NAMESPACE" "metadata.namespace") (list "POD_IP" "status.podIP") -}}
{{- range $fields -}}
{{- if not (hasKey $own (first .)) }}
- name: {{ first . }}
  valueFrom:
    fieldRef:
      fieldPath: {{ last . }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The agent's environment, from the values. */}}
{{- define "statlink.env" -}}
- name: STATLINK_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: STATLINK_KUBERNETES
  value: "on"
- name: STATLINK_NAMESPACE
  value: {{ .Values.knative.namespace | quote }}
- name: STATLINK_LINKS
  value: {{ join "," .Values.knative.links | quote }}
- name: STATLINK_POD_SELECTOR
  value: {{ .Values.knative.podSelector | quote }}
- name: STATLINK_CONTAINER
  value: {{ .Values.knative.container | quote }}
- name: STATLINK_SERVICE
  value: {{ .Values.knative.service | quote }}
- name: STATLINK_PEER_PORT
  value: {{ .Values.knative.port | quote }}
{{- if ne .Values.connectHook "auto" }}
- name: STATLINK_CONNECT_HOOK
  value: {{ .Values.connectHook | quote }}
{{- end }}
{{- if .Values.pins.enabled }}
- name: STATLINK_PIN_DIRECTORY
  value: /sys/fs/bpf/statlink
{{- end }}
- name: STATLINK_OTLP_ENDPOINT
  value: {{ .Values.otlp.endpoint | quote }}
- name: STATLINK_EXPORT_INTERVAL
  value: {{ .Values.otlp.exportInterval | quote }}
- name: STATLINK_OTLP_LOGS
  value: {{ .Values.otlp.logs | quote }}
- name: STATLINK_LOG
  value: {{ .Values.logLevel | quote }}
- name: STATLINK_HEALTH_ADDRESS
  value: "[::]:{{ .Values.health.port }}"
{{- if .Values.metrics.enabled }}
- name: STATLINK_METRICS_ADDRESS
  value: "[::]:{{ .Values.metrics.port }}"
{{- end }}
{{- if .Values.state.enabled }}
- name: STATLINK_STATE_DIR
  value: {{ ternary "/run/statlink-state" "/run/statlink" (ne .Values.state.hostPath "") }}
{{- end }}
{{- if not .Values.otlp.enabled }}
- name: OTEL_METRICS_EXPORTER
  value: none
{{- end }}
{{- with .Values.clusterName }}
- name: STATLINK_CLUSTER_NAME
  value: {{ . | quote }}
{{- end }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.otlp.protocol }}
{{- with .Values.otlp.compression }}
- name: OTEL_EXPORTER_OTLP_COMPRESSION
  value: {{ . }}
{{- end }}
{{- with .Values.resourceAttributes }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ $pairs := list }}{{ range $key, $value := . }}{{ $pairs = append $pairs (printf "%s=%s" $key ($value | urlquery | replace "+" "%20")) }}{{ end }}{{ join "," $pairs | quote }}
{{- end }}
{{- with .Values.otlp.tls }}
{{- if .secretName }}
- name: OTEL_EXPORTER_OTLP_CERTIFICATE
  value: /etc/statlink/tls/ca.crt
{{- end }}
{{- if .clientCertificate }}
- name: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE
  value: /etc/statlink/tls/tls.crt
- name: OTEL_EXPORTER_OTLP_CLIENT_KEY
  value: /etc/statlink/tls/tls.key
{{- end }}
{{- end }}
{{- with .Values.otlp.headers.secretName }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: headers
{{- end }}
{{- end }}
