package main

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic/dynamicinformer"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

const (
	resync = 2 * time.Second
	// objects of each kind that change all the time.
	objects = 8
)

// follower rebuilds the state of a kind from the events of an informer alone.
type follower struct {
	kind     string
	informer cache.SharedIndexInformer
	// list reads the truth.
	list func(context.Context) (runtime.Object, error)
	// write makes, changes or removes the object of a name.
	write func(ctx context.Context, name string, turn int) error

	lock     sync.Mutex
	versions map[string]string
	resyncs  int
	faults   []string
}

func (f *follower) handle() error {
	_, err := f.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) { f.see("added", object, func(known bool) bool { return !known }) },
		UpdateFunc: func(old, object any) {
			if version(old) == version(object) {
				f.lock.Lock()
				f.resyncs++
				f.lock.Unlock()
			}
			f.see("updated", object, func(known bool) bool { return known })
		},
		DeleteFunc: func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			f.see("deleted", object, func(known bool) bool { return known })
		},
	})
	return err
}

func (f *follower) see(what string, object any, expected func(known bool) bool) {
	f.lock.Lock()
	defer f.lock.Unlock()
	name := accessor(object).GetName()
	_, known := f.versions[name]
	if !expected(known) {
		f.faults = append(f.faults, fmt.Sprintf("%s was %s (known before: %t)", name, what, known))
	}
	if what == "deleted" {
		delete(f.versions, name)
	} else {
		f.versions[name] = version(object)
	}
}

func accessor(object any) metav1.Object {
	found, err := meta.Accessor(object)
	if err != nil {
		panic(err) // Every object has metadata.
	}
	return found
}

func version(object any) string { return accessor(object).GetResourceVersion() }

// missing compares what the events told with what is there.
func (f *follower) missing(ctx context.Context) error {
	list, err := f.list(ctx)
	if err != nil {
		return fmt.Errorf("list %s: %w", f.kind, err)
	}
	truth := map[string]string{}
	if err := meta.EachListItem(list, func(object runtime.Object) error {
		truth[accessor(object).GetName()] = version(object)
		return nil
	}); err != nil {
		return err
	}
	f.lock.Lock()
	defer f.lock.Unlock()
	if len(f.faults) > 0 {
		return fmt.Errorf("%s: events that do not fit: %v", f.kind, f.faults)
	}
	if !maps.Equal(truth, f.versions) {
		return fmt.Errorf("%s: the events tell %v, the server has %v", f.kind, f.versions, truth)
	}
	return nil
}

// informers lets writers change objects of three kinds all the time, also while the server is killed and started again.
func informers(ctx context.Context, s *suite) error {
	followers := s.followers(ctx)
	for turn := range 5 {
		for _, f := range followers {
			if err := f.turn(ctx, turn); err != nil {
				return err
			}
		}
	}
	stop := make(chan struct{})
	defer close(stop)
	for _, f := range followers {
		if err := f.handle(); err != nil {
			return err
		}
		go f.informer.Run(stop)
		if !cache.WaitForCacheSync(ctx.Done(), f.informer.HasSynced) {
			return fmt.Errorf("%s: the cache does not get in step", f.kind)
		}
	}

	writing, enough := context.WithCancel(ctx)
	defer enough()
	var writers sync.WaitGroup
	turns := make([]int, len(followers))
	for at, f := range followers {
		writers.Go(func() {
			for turn := 0; writing.Err() == nil; turn++ {
				// While there is no server, writes fail; that is not what is tested.
				if f.turn(writing, turn) == nil {
					turns[at]++
				}
			}
		})
	}
	time.Sleep(time.Second)
	for range 2 {
		if err := s.restart(); err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
	}
	enough()
	writers.Wait()

	for at, f := range followers {
		if turns[at] == 0 {
			return fmt.Errorf("%s: no round of writes succeeded", f.kind)
		}
		if err := until(ctx, func() error { return f.missing(ctx) }); err != nil {
			return err
		}
		if err := until(ctx, func() error {
			f.lock.Lock()
			defer f.lock.Unlock()
			if f.resyncs == 0 {
				return fmt.Errorf("%s: no resync came", f.kind)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// turn writes each object once.
func (f *follower) turn(ctx context.Context, turn int) error {
	for number := range objects {
		if err := f.write(ctx, fmt.Sprintf("o%d", number), turn+number); err != nil {
			return fmt.Errorf("write %s: %w", f.kind, err)
		}
	}
	return nil
}

func (s *suite) followers(ctx context.Context) []*follower {
	factory := kubeinformers.NewSharedInformerFactoryWithOptions(s.client, resync, kubeinformers.WithNamespace(s.namespace))
	custom := dynamicinformer.NewFilteredDynamicSharedInformerFactory(s.dynamic, resync, s.namespace, nil)
	maps, pods := s.client.CoreV1().ConfigMaps(s.namespace), s.client.CoreV1().Pods(s.namespace)
	own := s.dynamic.Resource(widgets).Namespace(s.namespace)
	now := int64(0)
	gone := metav1.DeleteOptions{GracePeriodSeconds: &now}
	return []*follower{
		{
			kind:     "config maps",
			versions: map[string]string{},
			informer: factory.Core().V1().ConfigMaps().Informer(),
			list:     func(ctx context.Context) (runtime.Object, error) { return maps.List(ctx, metav1.ListOptions{}) },
			write: func(ctx context.Context, name string, turn int) error {
				object := &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: name},
					Data:       map[string]string{"turn": fmt.Sprint(turn)},
				}
				return oneOf(turn,
					func() error { _, err := maps.Create(ctx, object, metav1.CreateOptions{}); return err },
					func() error { _, err := maps.Update(ctx, object, metav1.UpdateOptions{}); return err },
					func() error { return maps.Delete(ctx, name, gone) })
			},
		},
		{
			kind:     "pods",
			versions: map[string]string{},
			informer: factory.Core().V1().Pods().Informer(),
			list:     func(ctx context.Context) (runtime.Object, error) { return pods.List(ctx, metav1.ListOptions{}) },
			write: func(ctx context.Context, name string, turn int) error {
				object := &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"turn": fmt.Sprint(turn)}},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
				}
				return oneOf(turn,
					func() error { _, err := pods.Create(ctx, object, metav1.CreateOptions{}); return err },
					func() error { _, err := pods.Update(ctx, object, metav1.UpdateOptions{}); return err },
					func() error { return pods.Delete(ctx, name, gone) })
			},
		},
		{
			kind:     "widgets",
			versions: map[string]string{},
			informer: custom.ForResource(widgets).Informer(),
			list:     func(ctx context.Context) (runtime.Object, error) { return own.List(ctx, metav1.ListOptions{}) },
			write: func(ctx context.Context, name string, turn int) error {
				object := widget(name, int64(turn%10))
				return oneOf(turn,
					func() error { _, err := own.Create(ctx, object, metav1.CreateOptions{}); return err },
					func() error {
						current, err := own.Get(ctx, name, metav1.GetOptions{})
						if err != nil {
							return err
						}
						object.SetResourceVersion(current.GetResourceVersion())
						_, err = own.Update(ctx, object, metav1.UpdateOptions{})
						return err
					},
					func() error { return own.Delete(ctx, name, gone) })
			},
		},
	}
}

// oneOf creates, updates or deletes in turn. An object that is there already, or is not there, is fine: a request whose answer was lost
// may have been carried out.
func oneOf(turn int, create, update, remove func() error) error {
	err := []func() error{create, update, update, remove}[turn%4]()
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func widget(name string, size int64) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"size": size}}}
	object.SetGroupVersionKind(widgets.GroupVersion().WithKind("Widget"))
	object.SetName(name)
	return object
}
