package deploy

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	chart     = root + "/deploy/helm/bidder"
	namespace = "bids"
	oldest    = "v1.29.0" // the oldest Kubernetes that the chart says it is for
)

// installations are values that the chart is looked at with.
func installations(t *testing.T) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{"default": {}}
	for _, name := range []string{"full", "least"} {
		values, err := loader.LoadValues(strings.NewReader(string(read(t, "test/deploy/testdata/"+name+".yaml"))))
		if err != nil {
			t.Fatal(err)
		}
		found[name] = values
	}
	found["full"]["config"] = string(read(t, "examples/bidder.yaml")) // --set-file config=examples/bidder.yaml
	return found
}

// object is a manifest of some kind.
type object interface {
	GetName() string
	GetAnnotations() map[string]string
}

// kinds are what the chart may make.
func kinds() map[string]func() object {
	return map[string]func() object{
		"apps/v1 Deployment":                      func() object { return &apps.Deployment{} },
		"batch/v1 CronJob":                        func() object { return &batch.CronJob{} },
		"batch/v1 Job":                            func() object { return &batch.Job{} },
		"v1 ConfigMap":                            func() object { return &core.ConfigMap{} },
		"v1 Service":                              func() object { return &core.Service{} },
		"v1 ServiceAccount":                       func() object { return &core.ServiceAccount{} },
		"networking.k8s.io/v1 NetworkPolicy":      func() object { return &networking.NetworkPolicy{} },
		"policy/v1 PodDisruptionBudget":           func() object { return &policy.PodDisruptionBudget{} },
		"monitoring.coreos.com/v1 PrometheusRule": func() object { return &monitoring.PrometheusRule{} },
		"monitoring.coreos.com/v1 ServiceMonitor": func() object { return &monitoring.ServiceMonitor{} },
	}
}

// render is what would be sent to the cluster, by "Kind name". Each manifest is decoded into
// the type that the cluster has, and a field that is not there is an error.
func render(values map[string]any) (map[string]object, error) {
	loaded, err := loader.LoadDir(chart)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	version, err := common.ParseKubeVersion(oldest)
	if err != nil {
		return nil, err
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.KubeVersion = *version
	all, err := util.ToRenderValues(loaded, values, common.ReleaseOptions{Name: "bidder", Namespace: namespace, Revision: 1, IsInstall: true}, capabilities)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	objects := map[string]object{}
	for name, content := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for manifest := range strings.SplitSeq("\n"+content, "\n---\n") {
			var about meta.TypeMeta
			if err := yaml.Unmarshal([]byte(manifest), &about); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, manifest)
			}
			if about.Kind == "" && strings.TrimSpace(manifest) == "" {
				continue
			}
			create, known := kinds()[about.APIVersion+" "+about.Kind]
			if !known {
				return nil, fmt.Errorf("%s: %s %s is not expected", name, about.APIVersion, about.Kind)
			}
			o := create()
			if err := decode(manifest, o); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, manifest)
			}
			key := about.Kind + " " + o.GetName()
			if objects[key] != nil {
				return nil, fmt.Errorf("%s: there are two %s", name, key)
			}
			objects[key] = o
		}
	}
	return objects, nil
}

// decode reads a manifest as a cluster does that is told to be strict: no field twice, none
// that does not exist, and none in other letters.
func decode(manifest string, into any) error {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(manifest))
	if err != nil {
		return fmt.Errorf("YAML: %w", err)
	}
	wrong, err := json.UnmarshalStrict(asJSON, into)
	return errors.Join(append(wrong, err)...)
}

func mustRender(t *testing.T, values map[string]any) map[string]object {
	t.Helper()
	objects, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find is the object of a type whose name ends so.
func find[T object](t *testing.T, objects map[string]object, suffix string) T {
	t.Helper()
	for _, o := range objects {
		if of, is := o.(T); is && strings.HasSuffix(o.GetName(), suffix) {
			return of
		}
	}
	t.Fatalf("there is no %T …%s among %v", *new(T), suffix, slices.Sorted(maps.Keys(objects)))
	panic("unreachable")
}

// pods are the templates of pods, by the name of what makes them.
func pods(objects map[string]object) map[string]core.PodTemplateSpec {
	found := map[string]core.PodTemplateSpec{}
	for key, o := range objects {
		switch o := o.(type) {
		case *apps.Deployment:
			found[key] = o.Spec.Template
		case *batch.Job:
			found[key] = o.Spec.Template
		case *batch.CronJob:
			found[key] = o.Spec.JobTemplate.Spec.Template
		}
	}
	return found
}

// TestChartLint: Helm's own linter finds nothing, but that there is no picture.
func TestChartLint(t *testing.T) {
	t.Parallel()
	version, err := common.ParseKubeVersion(oldest)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range installations(t) {
		for _, message := range lint.RunAll(chart, values, namespace, lint.WithKubeVersion(version)).Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %s", name, message)
			}
		}
	}
}

// TestChartObjects: what each installation is made of.
func TestChartObjects(t *testing.T) {
	t.Parallel()
	full := "bids-of-a-team-with-a-long-name-in-eu"
	want := map[string][]string{
		"least": {"CronJob bidder-run"},
		"default": {
			"CronJob bidder-run", "Deployment bidder-console", "Job bidder-migrate", "NetworkPolicy bidder", "NetworkPolicy bidder-console",
			"PodDisruptionBudget bidder-console", "Service bidder-console", "ServiceAccount bidder",
		},
		"full": {
			"ConfigMap " + full, "CronJob " + full + "-go", "CronJob " + full + "-prune", "CronJob " + full + "-run", "CronJob " + full + "-sql",
			"Deployment " + full + "-console", "Job " + full + "-migrate", "NetworkPolicy " + full, "NetworkPolicy " + full + "-console",
			"PodDisruptionBudget " + full + "-console", "PrometheusRule " + full, "Service " + full + "-console", "ServiceAccount " + full, "ServiceMonitor " + full,
		},
	}
	for name, values := range installations(t) {
		objects := mustRender(t, values)
		if diff := cmp.Diff(want[name], slices.Sorted(maps.Keys(objects))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for key, o := range objects {
			_, is := o.(*batch.CronJob)
			if limit := map[bool]int{true: 52, false: 63}[is]; len(o.GetName()) > limit {
				t.Errorf("%s: %s is longer than %d", name, key, limit)
			}
		}
	}
}

// TestRestricted: all pods meet the restricted pod security standard, and more.
func TestRestricted(t *testing.T) {
	t.Parallel()
	for name, values := range installations(t) {
		objects := mustRender(t, values)
		for key, o := range objects {
			if account, is := o.(*core.ServiceAccount); is && (account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken) {
				t.Errorf("%s: %s has a token mounted", name, key)
			}
		}
		for key, template := range pods(objects) {
			checkRestricted(t, name+": "+key, template.Spec)
		}
	}
}

func checkRestricted(t *testing.T, where string, spec core.PodSpec) {
	t.Helper()
	if s := spec.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault || s.RunAsUser != nil {
		t.Errorf("%s: security context of the pod: %+v", where, s)
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken || spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Errorf("%s: it gets a token, or variables of other services", where)
	}
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		t.Errorf("%s: it shares the host's namespaces", where)
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 || s.Privileged != nil {
			t.Errorf("%s: security context of %s: %+v", where, c.Name, s)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: %s has no requests, or no limit of memory", where, c.Name)
		}
		if len(c.Command) > 0 || len(c.Args) == 0 {
			t.Errorf("%s: %s starts %v %v", where, c.Name, c.Command, c.Args)
		}
	}
}

// TestSecrets: every secret comes from a Secret, each container has no more than it needs, and
// only the hook has the owner's address.
func TestSecrets(t *testing.T) {
	t.Parallel()
	const worker, owner, pruner = "db/worker", "db-owner/url", "db-pruner/url"
	marketplaces := map[string]string{"UPWORK_BRIDGE_SECRET": "marketplaces/upwork", "FREELANCER_TOKEN": "marketplaces/freelancer"}
	plain := map[string]string{"BIDDER_WORKERS": "8", "BIDDER_DRY_RUN": "false", "BIDDER_POSTING_TTL": "12h", "BIDDER_CONFIG": "/etc/bidder/bidder.yaml"}
	console := map[string]string{"BIDDER_CONSOLE_TOKEN": "bidder-console/BIDDER_CONSOLE_TOKEN", "BIDDER_CONSOLE_READONLY_TOKEN": "bidder-console/readonly"}
	join := func(all ...map[string]string) map[string]string {
		joined := map[string]string{}
		for _, some := range all {
			maps.Copy(joined, some)
		}
		return joined
	}
	want := map[string]map[string]string{
		"run":     join(plain, marketplaces, map[string]string{"DATABASE_URL": worker}),
		"scan":    join(plain, marketplaces, map[string]string{"DATABASE_URL": worker}),
		"console": join(plain, marketplaces, console, map[string]string{"DATABASE_URL": worker}),
		"prune":   join(plain, map[string]string{"DATABASE_URL": pruner}),
		"migrate": {"DATABASE_URL": owner},
	}
	seen := map[string]bool{}
	for key, template := range pods(mustRender(t, installations(t)["full"])) {
		component := template.Labels["app.kubernetes.io/component"]
		seen[component] = true
		for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
			got := map[string]string{}
			for _, variable := range c.Env {
				got[variable.Name] = variable.Value
				if from := variable.ValueFrom; from != nil {
					got[variable.Name] = from.SecretKeyRef.Name + "/" + from.SecretKeyRef.Key
				}
			}
			if diff := cmp.Diff(want[component], got); diff != "" || len(c.EnvFrom) > 0 {
				t.Errorf("%s: environment of %s (-want +got):\n%s", key, c.Name, diff)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("only %v were looked at", seen)
	}
}

// TestExitCodes: the scheduler does with each exit code what it means.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	type rule struct {
		action batch.PodFailurePolicyAction
		codes  []int32
	}
	read := func(spec batch.JobSpec) (rules []rule) {
		for _, r := range spec.PodFailurePolicy.Rules {
			switch {
			case r.OnExitCodes != nil && r.OnExitCodes.Operator == batch.PodFailurePolicyOnExitCodesOpIn:
				rules = append(rules, rule{r.Action, r.OnExitCodes.Values})
			case len(r.OnPodConditions) == 1 && r.OnPodConditions[0].Type == core.DisruptionTarget && r.OnPodConditions[0].Status == core.ConditionTrue:
				rules = append(rules, rule{r.Action, nil})
			default:
				t.Errorf("rule %+v", r)
			}
		}
		if spec.Template.Spec.RestartPolicy != core.RestartPolicyNever {
			t.Errorf("restarts %s: the policy would not be asked", spec.Template.Spec.RestartPolicy)
		}
		if spec.ActiveDeadlineSeconds == nil {
			t.Error("no deadline")
		}
		return rules
	}
	disrupted := rule{batch.PodFailurePolicyActionIgnore, nil}
	passes := []rule{{batch.PodFailurePolicyActionFailJob, []int32{2}}, {batch.PodFailurePolicyActionFailIndex, []int32{3}}, {batch.PodFailurePolicyActionIgnore, []int32{4}}, disrupted}
	objects := mustRender(t, installations(t)["full"])
	for name, pods := range map[string]int32{"-run": 3, "-go": 1, "-sql": 1} {
		cron := find[*batch.CronJob](t, objects, name)
		spec := cron.Spec.JobTemplate.Spec
		if got := read(spec); !cmp.Equal(got, passes, cmp.AllowUnexported(rule{})) {
			t.Errorf("%s: %v", name, got)
		}
		// FailIndex needs indexes, and a limit for each.
		if *spec.CompletionMode != batch.IndexedCompletion || *spec.BackoffLimitPerIndex != 2 || *spec.Completions != pods || *spec.Parallelism != pods || spec.BackoffLimit != nil {
			t.Errorf("%s: %+v", name, spec)
		}
		if allows := cron.Spec.ConcurrencyPolicy == batch.AllowConcurrent; allows != (name == "-run") {
			t.Errorf("%s: concurrency: %s", name, cron.Spec.ConcurrencyPolicy)
		}
	}
	prune := find[*batch.CronJob](t, objects, "-prune")
	if got := read(prune.Spec.JobTemplate.Spec); !cmp.Equal(got, []rule{{batch.PodFailurePolicyActionFailJob, []int32{2}}, disrupted}, cmp.AllowUnexported(rule{})) || prune.Spec.ConcurrencyPolicy != batch.ForbidConcurrent {
		t.Errorf("prune: %v", got)
	}
	migrate := find[*batch.Job](t, objects, "-migrate")
	if got := read(migrate.Spec); !cmp.Equal(got, []rule{{batch.PodFailurePolicyActionFailJob, []int32{2, 3}}, disrupted}, cmp.AllowUnexported(rule{})) || *migrate.Spec.BackoffLimit != 5 {
		t.Errorf("migrate: %v", got)
	}
}

// TestMigrationComesFirst: it is a hook, and needs nothing that the release has yet to make.
func TestMigrationComesFirst(t *testing.T) {
	t.Parallel()
	for name, values := range installations(t) {
		if name == "least" {
			continue
		}
		objects := mustRender(t, values)
		migrate := find[*batch.Job](t, objects, "-migrate")
		if diff := cmp.Diff(map[string]string{"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"}, migrate.Annotations); diff != "" {
			t.Errorf("%s: annotations (-want +got):\n%s", name, diff)
		}
		spec := migrate.Spec.Template.Spec
		if spec.ServiceAccountName != "" || slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.ConfigMap != nil && objects["ConfigMap "+v.ConfigMap.Name] != nil }) {
			t.Errorf("%s: it needs %q and %v", name, spec.ServiceAccountName, spec.Volumes)
		}
		if !slices.Equal(spec.InitContainers[0].Args, []string{"migrate", "up"}) || !slices.Equal(spec.Containers[0].Args[:2], []string{"grants", "--apply"}) {
			t.Errorf("%s: it does %v, then %v", name, spec.InitContainers[0].Args, spec.Containers[0].Args)
		}
		for key, o := range objects {
			if o != object(migrate) && o.GetAnnotations()["helm.sh/hook"] != "" {
				t.Errorf("%s: %s is a hook", name, key)
			}
		}
	}
	want := []string{"grants", "--apply", "--schema", "bidding", "--worker", "a worker", "--reader", "grafana", "--pruner", "bidder_pruner"}
	if got := find[*batch.Job](t, mustRender(t, installations(t)["full"]), "-migrate").Spec.Template.Spec.Containers[0].Args; !slices.Equal(got, want) {
		t.Errorf("rights: %q", got)
	}
}

// TestConsole: it is reached at its port alone, ready only with its database, and one pod of
// it may always be taken away.
func TestConsole(t *testing.T) {
	t.Parallel()
	objects := mustRender(t, installations(t)["full"])
	deployment := find[*apps.Deployment](t, objects, "-console")
	c := deployment.Spec.Template.Spec.Containers[0]
	for path, probe := range map[string]*core.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.StrVal != "http" {
			t.Errorf("probe of %s: %+v", path, probe)
		}
	}
	if len(c.Ports) != 1 || c.Ports[0].Name != "http" || !slices.Equal(c.Args, []string{"console", "--listen", fmt.Sprintf(":%d", c.Ports[0].ContainerPort)}) {
		t.Errorf("it listens at %v with %v", c.Ports, c.Args)
	}
	labels := deployment.Spec.Template.Labels
	matches := func(selector map[string]string) bool {
		for name, value := range selector {
			if labels[name] != value {
				return false
			}
		}
		return len(selector) > 2 // not all pods of the release
	}
	service := find[*core.Service](t, objects, "-console")
	budget := find[*policy.PodDisruptionBudget](t, objects, "-console")
	allowed := find[*networking.NetworkPolicy](t, objects, "-console")
	monitor := find[*monitoring.ServiceMonitor](t, objects, "")
	for what, selector := range map[string]map[string]string{
		"deployment": deployment.Spec.Selector.MatchLabels, "service": service.Spec.Selector, "budget": budget.Spec.Selector.MatchLabels, "network policy": allowed.Spec.PodSelector.MatchLabels,
	} {
		if !matches(selector) {
			t.Errorf("%s selects %v, pods have %v", what, selector, labels)
		}
	}
	for name, value := range monitor.Spec.Selector.MatchLabels {
		if service.Labels[name] != value {
			t.Errorf("the monitor wants %s=%s, the service has %v", name, value, service.Labels)
		}
	}
	if credentials := monitor.Spec.Endpoints[0].Authorization.Credentials; credentials.Name != "bidder-console" || credentials.Key != "readonly" {
		t.Errorf("Prometheus signs in with %v", credentials)
	}
	if service.Spec.SessionAffinity != core.ServiceAffinityClientIP {
		t.Errorf("a client who has signed in meets another pod: %s", service.Spec.SessionAffinity)
	}
	if budget.Spec.MaxUnavailable.IntValue() != 1 || budget.Spec.MinAvailable != nil {
		t.Errorf("budget %+v", budget.Spec)
	}
	if len(allowed.Spec.Ingress) != 1 || allowed.Spec.Ingress[0].Ports[0].Port.StrVal != "http" || len(allowed.Spec.Ingress[0].From) != 1 {
		t.Errorf("let in: %+v", allowed.Spec.Ingress)
	}
	if deployment.Spec.Template.Annotations["checksum/config"] == "" {
		t.Error("a new configuration does not start the console again")
	}
}

// TestNetwork: nobody reaches the pods of a release unless a rule says so.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"default", "full"} {
		objects := mustRender(t, installations(t)[name])
		all := find[*networking.NetworkPolicy](t, objects, map[string]string{"default": "bidder", "full": "-eu"}[name])
		if !slices.Equal(all.Spec.PolicyTypes, []networking.PolicyType{networking.PolicyTypeIngress, networking.PolicyTypeEgress}) || len(all.Spec.Ingress) != 0 || len(all.Spec.Egress) != 3 {
			t.Errorf("%s: %+v", name, all.Spec)
		}
		for key, template := range pods(objects) {
			for label, value := range all.Spec.PodSelector.MatchLabels {
				if template.Labels[label] != value {
					t.Errorf("%s: %s is not covered: %v", name, key, template.Labels)
				}
			}
		}
	}
}

// TestConfiguration: the file arrives as it was, where the program is told to look, and what is
// mounted for all containers and for the passes is there, too.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	objects := mustRender(t, installations(t)["full"])
	file := find[*core.ConfigMap](t, objects, "")
	if diff := cmp.Diff(string(read(t, "examples/bidder.yaml")), file.Data["bidder.yaml"]); diff != "" {
		t.Errorf("the file (-want +got):\n%s", diff)
	}
	of := func(name string) core.VolumeSource {
		return core.VolumeSource{ConfigMap: &core.ConfigMapVolumeSource{LocalObjectReference: core.LocalObjectReference{Name: name}}}
	}
	config, authority := core.Volume{Name: "config", VolumeSource: of(file.Name)}, core.Volume{Name: "authority", VolumeSource: of("authority-of-the-database")}
	postings := core.Volume{Name: "postings", VolumeSource: core.VolumeSource{PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: "postings", ReadOnly: true}}}
	places := map[string]string{"config": "/etc/bidder", "authority": "/authority", "postings": "/postings"}
	want := map[string][]core.Volume{"run": {config, authority, postings}, "scan": {config, authority}, "console": {config, authority}, "prune": {config, authority}, "migrate": {authority}}
	for key, template := range pods(objects) {
		volumes := want[template.Labels["app.kubernetes.io/component"]]
		if diff := cmp.Diff(volumes, template.Spec.Volumes); diff != "" {
			t.Errorf("%s: volumes (-want +got):\n%s", key, diff)
		}
		var mounts []core.VolumeMount
		for _, v := range volumes {
			mounts = append(mounts, core.VolumeMount{Name: v.Name, MountPath: places[v.Name], ReadOnly: true})
		}
		for _, c := range slices.Concat(template.Spec.InitContainers, template.Spec.Containers) {
			if diff := cmp.Diff(mounts, c.VolumeMounts); diff != "" {
				t.Errorf("%s: mounts of %s (-want +got):\n%s", key, c.Name, diff)
			}
		}
	}
}

// TestNamesAndText: what YAML would take for a number, a switch or an indentation arrives as the
// text that it is; and passes alone may be rehearsed.
func TestNamesAndText(t *testing.T) {
	t.Parallel()
	for _, config := range []string{"  # indented\nmarketplaces: {}\n", "\n\n    \nmarketplaces: {}", "a: \"\\t\"\t# tab, no end of line"} {
		objects := mustRender(t, map[string]any{
			"config": config, "nameOverride": "123", "fullnameOverride": "1e3", "serviceAccount": map[string]any{"name": "456"}, "image": map[string]any{"pullSecrets": []any{"on", "456"}},
			"env": map[string]any{"BIDDER_DRY_RUN": "true"}, "console": map[string]any{"enabled": false},
		})
		if got := find[*core.ConfigMap](t, objects, "").Data["bidder.yaml"]; got != config {
			t.Errorf("%q arrives as %q", config, got)
		}
		pass := find[*batch.CronJob](t, objects, "-run").Spec.JobTemplate.Spec.Template
		if got := []string{pass.Labels["app.kubernetes.io/name"], pass.Spec.ServiceAccountName, pass.Spec.Volumes[0].ConfigMap.Name}; !slices.Equal(got, []string{"123", "456", "1e3"}) {
			t.Errorf("names are %q", got)
		}
		if diff := cmp.Diff([]core.LocalObjectReference{{Name: "on"}, {Name: "456"}}, pass.Spec.ImagePullSecrets); diff != "" {
			t.Errorf("secrets of the registry (-want +got):\n%s", diff)
		}
	}
}

// TestPrometheusRule: the chart's rules are those of deploy/prometheus.
func TestPrometheusRule(t *testing.T) {
	t.Parallel()
	rule := find[*monitoring.PrometheusRule](t, mustRender(t, installations(t)["full"]), "")
	var want monitoring.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict(read(t, "deploy/prometheus/alerts.yaml"), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rule.Spec); diff != "" || len(want.Groups) == 0 {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// TestWrongValues: what is misspelt, or a secret in the wrong place, is refused.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	mustRender(t, map[string]any{})                                    // what is not wrong is taken
	mustRender(t, map[string]any{"volumes": nil, "volumeMounts": nil}) // --reuse-values of a release that knew neither
	for _, wrong := range []string{
		"runs: {}", "run: {pod: 3}", "run: {pods: 0}", `run: {pods: "3"}`, "run: {schedule: hourly}", `run: {schedule: "TZ=UTC * * * * *"}`, "env: {BIDDER_WORKERS: 8}", "env: {WORKERS: '8'}",
		"env: {DATABASE_URL: 'postgres://…'}", "env: {BIDDER_CONSOLE_TOKEN: abc}", "env: {BIDDER_TOKEN_KEY: abc}", "secretEnv: {UPWORK_BRIDGE_SECRET: whsec_abc}",
		"secretEnv: {DATABASE_URL: {secret: a, key: b}}", "database: {worker: {url: 'postgres://…'}}", "console: {token: abc}", "console: {token: {secret: '', key: x}}",
		"scans: [{name: run, schedule: '@hourly', args: [freelancer]}]", "scans: [{name: go, args: [freelancer]}]", "image: {digest: latest}",
		"prune: {olderThan: 90}", "serviceMonitor: {enabled: true}",
		`env: {BIDDER_DRY_RUN: "true"}`, `{env: {BIDDER_DRY_RUN: "1"}, console: {enabled: false}, scans: [{name: go, schedule: "@hourly", args: [freelancer]}]}`,
	} {
		values, err := loader.LoadValues(strings.NewReader(wrong))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := render(values); err == nil {
			t.Errorf("%s is taken", wrong)
		}
	}
}
