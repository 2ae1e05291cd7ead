{{- define "bidder.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "bidder.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "bidder.labels" -}}
{{ include "bidder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bidder.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "bidder.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "bidder.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- /* The metadata of pods. Takes root, component. */ -}}
{{- define "bidder.podMetadata" -}}
labels:
  {{- include "bidder.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $annotations := merge (dict) .root.Values.podAnnotations }}
{{- if and (eq .component "console") .root.Values.config }}
{{- $_ := set $annotations "checksum/config" (sha256sum .root.Values.config) }}
{{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* What all pods have in common: nothing of the node, of the cluster, or of root. Takes root. */ -}}
{{- define "bidder.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
A container. Takes root, name, args, database (worker, owner or pruner), resources; configured:
it reads the configuration file and settings; calls: it calls marketplaces, and so has their secrets;
mounts: its own, beside those of all.
*/ -}}
{{- define "bidder.container" -}}
name: {{ .name }}
image: {{ include "bidder.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  {{- range .args }}
  - {{ . | quote }}
  {{- end }}
env:
  - name: DATABASE_URL
    {{- include "bidder.fromSecret" (index .root.Values.database .database) | nindent 4 }}
  {{- if and .configured .root.Values.config }}
  - {name: BIDDER_CONFIG, value: /etc/bidder/bidder.yaml}
  {{- end }}
  {{- if .configured }}
  {{- range $name, $value := .root.Values.env }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  {{- end }}
  {{- if .calls }}
  {{- range $name, $from := .root.Values.secretEnv }}
  - name: {{ $name }}
    {{- include "bidder.fromSecret" $from | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if eq .name "console" }}
  - name: BIDDER_CONSOLE_TOKEN
    {{- include "bidder.fromSecret" .root.Values.console.token | nindent 4 }}
  {{- if .root.Values.console.readonlyToken.secret }}
  - name: BIDDER_CONSOLE_READONLY_TOKEN
    {{- include "bidder.fromSecret" .root.Values.console.readonlyToken | nindent 4 }}
  {{- end }}
  {{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- $mounts := concat (default list .root.Values.volumeMounts) (default list .mounts) }}
{{- if or (and .configured .root.Values.config) $mounts }}
volumeMounts:
  {{- if and .configured .root.Values.config }}
  - {name: config, mountPath: /etc/bidder, readOnly: true}
  {{- end }}
  {{- with $mounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "bidder.fromSecret" -}}
valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}}}
{{- end -}}

{{- /* Takes root; configured: as a container's; volumes: the pod's own, beside those of all. */ -}}
{{- define "bidder.volumes" -}}
{{- $volumes := concat (default list .root.Values.volumes) (default list .volumes) -}}
{{- if or (and .configured .root.Values.config) $volumes -}}
volumes:
  {{- if and .configured .root.Values.config }}
  - name: config
    configMap: {name: {{ include "bidder.fullname" .root | quote }}}
  {{- end }}
  {{- with $volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /*
The spec of a Job of passes or scans. Each pod is an index of its own, so that one that is done
with something for a person (3) does not end the others, as failing the whole Job would.
Takes root, component, args, pods, volumes, mounts.
*/ -}}
{{- define "bidder.passes" -}}
{{- $run := .root.Values.run -}}
completionMode: Indexed
completions: {{ .pods }}
parallelism: {{ .pods }}
activeDeadlineSeconds: {{ $run.activeDeadlineSeconds }}
backoffLimitPerIndex: {{ $run.retries }}
ttlSecondsAfterFinished: 3600
podFailurePolicy:
  rules:
    # 2, wrong configuration: all pods have the same, and so would the next.
    - action: FailJob
      onExitCodes: {operator: In, values: [2]}
    # 3, done, with something for a person: nothing to repeat.
    - action: FailIndex
      onExitCodes: {operator: In, values: [3]}
    # 4, the database is away: tried again and again, with growing gaps, until the deadline.
    - action: Ignore
      onExitCodes: {operator: In, values: [4]}
    # Evicted, drained, preempted: no fault of its own.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    # All else (1, killed) counts: `retries`.
template:
  metadata:
    {{- include "bidder.podMetadata" . | nindent 4 }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "bidder.serviceAccount" .root | quote }}
    terminationGracePeriodSeconds: {{ $run.terminationGracePeriodSeconds }}
    {{- include "bidder.podSpec" . | nindent 4 }}
    containers:
      - {{- include "bidder.container" (dict "root" .root "name" "bidder" "args" .args "database" "worker" "resources" $run.resources "configured" true "calls" true "mounts" .mounts) | nindent 8 }}
    {{- include "bidder.volumes" (dict "root" .root "configured" true "volumes" .volumes) | nindent 4 }}
{{- end -}}
