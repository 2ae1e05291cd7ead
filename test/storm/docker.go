package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// label is on all that a storm makes at the engine; its value is the process id of the storm.
const label = "bidder-storm"

// engine is what a storm has at the Docker engine. Everything there bears its name and its label.
type engine struct{ name string }

// docker runs the docker command and returns what it printed.
func docker(ctx context.Context, args ...string) (string, error) {
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// container is the name of a container, network, volume or image of this storm.
func (e engine) of(name string) string { return e.name + "-" + name }

// run starts a container in the background, known by its name in its network.
func (e engine) run(ctx context.Context, name, network string, args ...string) error {
	_, err := docker(ctx, append([]string{
		"run", "--detach", "--name", e.of(name), "--hostname", name, "--label", e.label(),
		"--network", e.of(network), "--network-alias", name,
	}, args...)...)
	return err
}

func (e engine) network(ctx context.Context, name string) error {
	_, err := docker(ctx, "network", "create", "--label", e.label(), e.of(name))
	return err
}

func (e engine) volume(ctx context.Context, name string) error {
	_, err := docker(ctx, "volume", "create", "--label", e.label(), e.of(name))
	return err
}

// kill sends a signal, and waits for the end of the container.
func (e engine) kill(ctx context.Context, name, signal string, patience time.Duration) error {
	if _, err := docker(ctx, "kill", "--signal", signal, e.of(name)); err != nil && e.runs(ctx, name) {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := docker(waiting, "wait", e.of(name)); err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	_, _ = docker(ctx, "kill", e.of(name)) // it may have ended meanwhile
	_, err := docker(ctx, "wait", e.of(name))
	return err
}

func (e engine) runs(ctx context.Context, name string) bool {
	running, err := docker(ctx, "inspect", "--format", "{{.State.Running}}", e.of(name))
	return err == nil && running == "true"
}

func (e engine) start(ctx context.Context, name string) error {
	_, err := docker(ctx, "start", e.of(name))
	return err
}

// port is where on this machine a port of a container is.
func (e engine) port(ctx context.Context, name string, port int) (string, error) {
	out, err := docker(ctx, "port", e.of(name), strconv.Itoa(port)+"/tcp")
	first, _, _ := strings.Cut(out, "\n")
	return first, err
}

func (e engine) label() string { return label + "=" + strings.TrimPrefix(e.name, label+"-") }

// remove deletes all that has the label.
func (e engine) remove(ctx context.Context) error { return removeLabelled(ctx, e.label()) }

// removeLeftovers deletes what storms have left that were killed.
func removeLeftovers(ctx context.Context) error {
	out, err := docker(ctx, "ps", "--all", "--filter", "label="+label, "--format", `{{.Label "`+label+`"}}`)
	if err != nil {
		return err
	}
	var errs []error
	for pid := range strings.FieldsSeq(out) {
		if n, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			errs = append(errs, removeLabelled(ctx, label+"="+pid))
		}
	}
	return errors.Join(errs...)
}

func removeLabelled(ctx context.Context, label string) error {
	var errs []error
	for _, what := range [][2][]string{
		{{"ps", "--all", "--quiet"}, {"rm", "--force", "--volumes"}},
		{{"volume", "ls", "--quiet"}, {"volume", "rm", "--force"}},
		{{"network", "ls", "--quiet"}, {"network", "rm"}},
		{{"images", "--quiet"}, {"rmi", "--force"}},
	} {
		list, remove := what[0], what[1]
		out, err := docker(ctx, append(list, "--filter", "label="+label)...)
		if ids := strings.Fields(out); err == nil && len(ids) > 0 {
			_, err = docker(ctx, append(remove, ids...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
