// Clients drives a server with client-go's informers and a controller-runtime manager: what they rely on must be there.
//
//	go run . --kubeconfig FILE
//
// It wants the definitions of tests/conformance, works in a namespace of its own, which it removes, and prints one line per step.
// When it prints "restart" the server is to be killed and started again; it goes on when it reads a line. Exit code 1: a step failed.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// widgets are the custom resource of tests/conformance/definitions.yaml.
var widgets = schema.GroupVersionResource{Group: "conformance.ferrovirt.io", Version: "v1", Resource: "widgets"}

// suite is what the steps share.
type suite struct {
	config    *rest.Config
	client    kubernetes.Interface
	dynamic   dynamic.Interface
	namespace string
	answers   *bufio.Reader
}

type step struct {
	name string
	run  func(context.Context, *suite) error
}

var steps = []step{
	{"informers follow every change, across a restart of the server", informers},
	{"a manager reconciles: finalizer, owned object, status, event", reconcile},
	{"a second manager takes the lease over", handOver},
}

func main() {
	kubeconfig := flag.Lookup("kubeconfig").Value.String
	timeout := flag.Duration("timeout", 3*time.Minute, "time for each step")
	flag.Parse()
	// What libraries say about a server that is being restarted is not what the test is about.
	klog.SetLogger(logr.Discard())
	ctrl.SetLogger(logr.Discard())
	if err := run(kubeconfig(), *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

func run(kubeconfig string, timeout time.Duration) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %q: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 1000, 1000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	unstructured, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a dynamic client: %w", err)
	}
	s := &suite{config: config, client: client, dynamic: unstructured, answers: bufio.NewReader(os.Stdin)}
	ctx := context.Background()
	namespace, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "clients-"},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create a namespace: %w", err)
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
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("ok    %s (%s)\n", step.name, time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// restart has the server killed and started again.
func (s *suite) restart() error {
	fmt.Println("restart")
	if _, err := s.answers.ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the server's restart: %w", err)
	}
	return nil
}

// until waits for a condition; the error says what was missing last.
func until(ctx context.Context, missing func() error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 20*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := missing()
		if err == nil || ctx.Err() == nil {
			// At the end of the time requests fail for that reason alone.
			last = err
		}
		return err == nil, nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}
