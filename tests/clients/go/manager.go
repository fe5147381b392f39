package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	finalizer = "clients.ferrovirt.io/widget"
	lease     = "clients"
)

// reconciler keeps a config map for each widget, and says so in the widget's status and in an event.
type reconciler struct {
	client.Client
	recorder events.EventRecorder
	name     string
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(widgets.GroupVersion().WithKind("Widget"))
	if err := r.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !object.GetDeletionTimestamp().IsZero() {
		if controllerutil.RemoveFinalizer(object, finalizer) {
			return ctrl.Result{}, r.Update(ctx, object)
		}
		return ctrl.Result{}, nil
	}
	if controllerutil.AddFinalizer(object, finalizer) {
		return ctrl.Result{}, r.Update(ctx, object)
	}
	child := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: object.GetName(), Namespace: object.GetNamespace()}}
	size, _, err := unstructured.NestedInt64(object.Object, "spec", "size")
	if err != nil {
		return ctrl.Result{}, err
	}
	outcome, err := controllerutil.CreateOrUpdate(ctx, r.Client, child, func() error {
		child.Data = map[string]string{"size": fmt.Sprint(size), "by": r.name}
		return controllerutil.SetControllerReference(object, child, r.Scheme())
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if outcome == controllerutil.OperationResultCreated {
		r.recorder.Eventf(object, child, corev1.EventTypeNormal, "Made", "Make", "made %s", child.Name)
	}
	before := object.DeepCopy()
	if err := unstructured.SetNestedField(object.Object, size, "status", "replicas"); err != nil {
		return ctrl.Result{}, err
	}
	if err := unstructured.SetNestedField(object.Object, "Ready", "status", "phase"); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.Status().Patch(ctx, object, client.MergeFrom(before))
}

// start runs a manager until the returned function ends it.
func (s *suite) start(ctx context.Context, name string) (elected <-chan struct{}, end func() error, err error) {
	// Each manager of this process has a controller of the same name.
	anew, long, medium, short := true, time.Minute, 40*time.Second, 500*time.Millisecond
	manager, err := ctrl.NewManager(s.config, ctrl.Options{
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{s.namespace: {}}},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              lease,
		LeaderElectionNamespace:       s.namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &long,
		RenewDeadline:                 &medium,
		RetryPeriod:                   &short,
		Controller:                    config.Controller{SkipNameValidation: &anew},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make a manager: %w", err)
	}
	object := widget("", 0)
	err = ctrl.NewControllerManagedBy(manager).Named("widgets").For(object).Owns(&corev1.ConfigMap{}).
		Complete(&reconciler{manager.GetClient(), manager.GetEventRecorder("clients"), name})
	if err != nil {
		return nil, nil, fmt.Errorf("make a controller: %w", err)
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- manager.Start(running) }()
	end = func() error {
		cancel()
		return <-done
	}
	return manager.Elected(), end, nil
}

// phase waits until a widget is ready with this size, and its config map was made by this manager.
func (s *suite) ready(ctx context.Context, name string, size int64, by string) error {
	return until(ctx, func() error {
		object, err := s.dynamic.Resource(widgets).Namespace(s.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		phase, _, _ := unstructured.NestedString(object.Object, "status", "phase")
		replicas, _, _ := unstructured.NestedInt64(object.Object, "status", "replicas")
		child, err := s.client.CoreV1().ConfigMaps(s.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if phase != "Ready" || replicas != size || child.Data["size"] != fmt.Sprint(size) || child.Data["by"] != by {
			return fmt.Errorf("widget %s: status %v, config map %v", name, object.Object["status"], child.Data)
		}
		if !metav1.IsControlledBy(child, object) {
			return fmt.Errorf("config map %s is controlled by %v", name, child.OwnerReferences)
		}
		return nil
	})
}

func reconcile(ctx context.Context, s *suite) error {
	elected, end, err := s.start(ctx, "first")
	if err != nil {
		return err
	}
	select {
	case <-elected:
	case <-ctx.Done():
		return fmt.Errorf("nobody is elected: %w", ctx.Err())
	}
	own, maps := s.dynamic.Resource(widgets).Namespace(s.namespace), s.client.CoreV1().ConfigMaps(s.namespace)
	object, err := own.Create(ctx, widget("w", 3), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := s.ready(ctx, "w", 3, "first"); err != nil {
		return err
	}
	// What the manager owns comes back, and a change of what it was asked for arrives.
	if err := maps.Delete(ctx, "w", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := s.ready(ctx, "w", 3, "first"); err != nil {
		return err
	}
	if object, err = own.Get(ctx, "w", metav1.GetOptions{}); err != nil {
		return err
	}
	generation := object.GetGeneration()
	if err := unstructured.SetNestedField(object.Object, int64(4), "spec", "size"); err != nil {
		return err
	}
	if object, err = own.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
		return err
	}
	if object.GetGeneration() != generation+1 {
		return fmt.Errorf("the generation went from %d to %d", generation, object.GetGeneration())
	}
	if err := s.ready(ctx, "w", 4, "first"); err != nil {
		return err
	}
	if err := until(ctx, func() error {
		list, err := s.client.EventsV1().Events(s.namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=Made"})
		if err == nil && len(list.Items) == 0 {
			err = fmt.Errorf("no event tells that the config map was made")
		}
		return err
	}); err != nil {
		return err
	}
	if err := own.Delete(ctx, "w", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := until(ctx, func() error {
		_, err := own.Get(ctx, "w", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the deleted widget is still there (%v)", err)
		}
		if _, err = maps.Get(ctx, "w", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("what the deleted widget owned is still there (%v)", err)
		}
		return nil
	}); err != nil {
		return err
	}
	return end()
}

func handOver(ctx context.Context, s *suite) error {
	_, endFirst, err := s.start(ctx, "first")
	if err != nil {
		return err
	}
	own := s.dynamic.Resource(widgets).Namespace(s.namespace)
	if _, err := own.Create(ctx, widget("x", 1), metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := s.ready(ctx, "x", 1, "first"); err != nil {
		return err
	}
	elected, endSecond, err := s.start(ctx, "second")
	if err != nil {
		return err
	}
	select {
	case <-elected:
		return fmt.Errorf("two managers hold the lease")
	case <-time.After(2 * time.Second):
	}
	if err := endFirst(); err != nil {
		return err
	}
	if err := s.ready(ctx, "x", 1, "second"); err != nil {
		return err
	}
	found, err := s.client.CoordinationV1().Leases(s.namespace).Get(ctx, lease, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if found.Spec.LeaseTransitions == nil || *found.Spec.LeaseTransitions < 1 {
		return fmt.Errorf("the lease tells of no transition: %v", found.Spec)
	}
	if err := own.Delete(ctx, "x", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := until(ctx, func() error {
		_, err := own.Get(ctx, "x", metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the deleted widget is still there (%v)", err)
		}
		return nil
	}); err != nil {
		return err
	}
	return endSecond()
}
