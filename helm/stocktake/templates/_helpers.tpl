{{- define "stocktake.name" -}}
{{- if contains "stocktake" .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-stocktake" (.Release.Name | trunc 42 | trimSuffix "-") }}
{{- end -}}
{{- end }}

{{- define "stocktake.selector" -}}
app.kubernetes.io/name: stocktake
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stocktake.labels" -}}
{{ include "stocktake.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "stocktake.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "stocktake.name" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{/* The configuration file. A pod's endpoint listens on every address; probes and the service rely on the port. */}}
{{- define "stocktake.config" -}}
{{- $own := dict "web" (dict "host" "0.0.0.0" "port" 8321) -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end }}
