{{/* What the agent's pod and that of `helm test` have in common, but for the container. */}}
{{- define "statlink.pod" -}}
serviceAccountName: {{ include "statlink.serviceAccount" . }}
# Otherwise a Service named like one of the agent's flags would set that flag's variable.
enableServiceLinks: false
# The agent watches processes of other pods, by the node's process ids.
hostPID: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if eq .Values.security.profile "restricted" }}
securityContext:
  seccompProfile:
    {{- toYaml .Values.security.seccompProfile | nindent 4 }}
{{- end }}
volumes:
  {{- if include "statlink.tracefs" . }}
  # To see connect() itself: dials that fail before a SYN, and name lookups.
  - name: tracefs
    hostPath:
      path: /sys/kernel/tracing
      type: Directory
  {{- end }}
  {{- if .Values.pins.enabled }}
  # Where the kernel half outlives the agent.
  - name: bpffs
    hostPath:
      path: /sys/fs/bpf
      type: Directory
  {{- end }}
  # For the control socket, which `kubectl exec ... /statlink status` uses, and with state.enabled what is left to the
  # next agent.
  - name: run
    emptyDir:
      medium: Memory
      sizeLimit: {{ ternary "8Mi" "1Mi" .Values.state.enabled }}
  {{- with .Values.state.hostPath }}
  # What an agent leaves to the next.
  - name: state
    hostPath:
      path: {{ . }}
      type: DirectoryOrCreate
  {{- end }}
  {{- with .Values.otlp.tls.secretName }}
  - name: tls
    secret:
      secretName: {{ . }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What the agent's container and that of `helm test` have in common. */}}
{{- define "statlink.container" -}}
image: {{ include "statlink.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
  {{- with include "statlink.references" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- include "statlink.env" . | nindent 2 }}
securityContext:
  {{- with .Values.security }}
  runAsUser: 0
  readOnlyRootFilesystem: true
  {{- if eq .profile "restricted" }}
  privileged: false
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
    # BPF creates maps, programs and iterators. PERFMON attaches to tracepoints and reads kernel
    # memory.
    add: {{ concat (list "BPF" "PERFMON") .extraCapabilities | toJson }}
  {{- else }}
  privileged: true
  {{- end }}
  {{- with .seLinuxOptions }}
  seLinuxOptions:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .appArmorProfile }}
  appArmorProfile:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
volumeMounts:
  {{- if include "statlink.tracefs" . }}
  - name: tracefs
    mountPath: /sys/kernel/tracing
    readOnly: true
  {{- end }}
  {{- if .Values.pins.enabled }}
  - name: bpffs
    mountPath: /sys/fs/bpf
  {{- end }}
  - name: run
    mountPath: /run/statlink
  {{- if .Values.state.hostPath }}
  - name: state
    mountPath: /run/statlink-state
  {{- end }}
  {{- with .Values.otlp.tls.secretName }}
  - name: tls
    mountPath: /etc/statlink/tls
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
