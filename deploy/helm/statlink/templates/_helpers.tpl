{{/* Labels that select the pods: they never change. */}}
{{- define "statlink.selector" -}}
app.kubernetes.io/name: statlink
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "statlink.labels" -}}
{{ include "statlink.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: statlink
{{- end }}

{{- define "statlink.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{/* Values that contradict each other: the key, and the cure. */}}
{{- define "statlink.refuse" -}}
{{- if and (hasPrefix "https://" .Values.otlp.endpoint) (not .Values.otlp.tls.secretName) -}}
{{ fail "otlp.tls.secretName: the image has no authorities of its own, and otlp.endpoint is https; name a Secret with ca.crt" }}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{ fail "serviceAccount.name: name the account that the Role is bound to, or set serviceAccount.create" }}
{{- end -}}
{{- if and .Values.clusterName (hasKey .Values.resourceAttributes "k8s.cluster.name") -}}
{{ fail "resourceAttributes: k8s.cluster.name is set by clusterName too; leave one of them out" }}
{{- end -}}
{{- if and .Values.otlp.tls.clientCertificate (not .Values.otlp.tls.secretName) -}}
{{ fail "otlp.tls.clientCertificate: there is no otlp.tls.secretName to take tls.crt and tls.key from" }}
{{- end -}}
{{- if and (hasPrefix "http://" .Values.otlp.endpoint) .Values.otlp.tls.secretName -}}
{{ fail "otlp.tls.secretName: otlp.endpoint is http; make it https, or leave the Secret out" }}
{{- end -}}
{{- $set := dict -}}
{{- range include "statlink.env" . | fromYamlArray }}{{ $_ := set $set .name true }}{{ end -}}
{{- range .Values.extraEnv -}}
{{- if hasKey $set .name -}}
{{ fail (printf "extraEnv: %s is set by a value of its own; set that, and leave it out here" .name) }}
{{- end -}}
{{- end -}}
{{- end }}
