// Compat drives a server with upstream's typed client, unmodified: what it cannot do with us, its users cannot.
//
//	go run . --kubeconfig FILE [--image ferrovirt/demo-guest:latest] [--console-text login:] [--timeout 3m]
//
// It works in a namespace of its own, which it removes, and prints one line per step. Exit code 1: a step failed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirt "kubevirt.io/client-go/kubecli"
	"kubevirt.io/client-go/log"
)

// suite is what the steps share.
type suite struct {
	client    kubevirt.KubevirtClient
	namespace string
	image     string
	console   string
}

type step struct {
	name string
	run  func(context.Context, *suite) error
}

// Each step goes on from where the one before left the machine.
var steps = []step{
	{"version", serverVersion},
	{"create", create},
	{"get and put without loss", roundTrip},
	{"bad input is refused with causes", refusals},
	{"list", list},
	{"watch", watchVM},
	{"stop of a stopped machine is a conflict", stopStopped},
	{"start", start},
	{"instance without loss", instanceRoundTrip},
	{"guestosinfo without an agent", guestOSInfo},
	{"console", console},
	{"pause and unpause", pause},
	{"stop", stop},
	{"delete", remove},
}

func main() {
	kubeconfig := flag.String("kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig of the server")
	image := flag.String("image", "ferrovirt/demo-guest:latest", "containerDisk image of the guest")
	prompt := flag.String("console-text", "login:", "text the guest's console shows")
	timeout := flag.Duration("timeout", 3*time.Minute, "time for each step")
	flag.Parse()
	log.InitializeLogging("compat")
	if err := run(*kubeconfig, *image, *prompt, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "compat:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, image, prompt string, timeout time.Duration) error {
	client, err := kubevirt.GetKubevirtClientFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("client from kubeconfig %q: %w", kubeconfig, err)
	}
	s := &suite{client: client, image: image, console: prompt}
	ctx := context.Background()
	namespace, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "compat-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	s.namespace = namespace.Name
	failed := s.steps(ctx, timeout)
	if err := client.CoreV1().Namespaces().Delete(ctx, s.namespace, metav1.DeleteOptions{}); err != nil && failed == nil {
		failed = fmt.Errorf("delete namespace %s: %w", s.namespace, err)
	}
	return failed
}

func (s *suite) steps(ctx context.Context, timeout time.Duration) error {
	for _, step := range steps {
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, timeout)
		err := step.run(limited, s)
		cancel()
		if err != nil {
			fmt.Printf("FAIL  %s\n", step.name)
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("ok    %s (%s)\n", step.name, time.Since(began).Round(time.Millisecond))
	}
	return nil
}
