{{/* Labels of everything that the chart makes. Names of objects are constants: one release runs in a cluster, since its kinds,
policies and StorageClass have no namespace. */}}
{{- define "syncmesh.labels" -}}
app.kubernetes.io/part-of: syncmesh
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "syncmesh.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The operator as the API server knows it. */}}
{{- define "syncmesh.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:syncmesh-operator
{{- end }}

{{- define "syncmesh.agentUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:syncmesh-agent
{{- end }}

{{/* What pod security `restricted` asks of a container that needs nothing. */}}
{{- define "syncmesh.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: { drop: [ALL] }
seccompProfile: { type: RuntimeDefault }
{{- end }}
