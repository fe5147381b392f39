package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	v1 "kubevirt.io/api/core/v1"
)

const machineName = "compat"

var (
	machines  = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "virtualmachines"}
	instances = schema.GroupVersionResource{Group: "kubevirt.io", Version: "v1", Resource: "virtualmachineinstances"}
)

func serverVersion(_ context.Context, s *suite) error {
	info, err := s.client.ServerVersion().Get()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(info.GitVersion, "v1.") {
		return fmt.Errorf("gitVersion is %q, want v1.…", info.GitVersion)
	}
	return nil
}

// machine is written with upstream's types. Some amounts are not in canonical form: a typed client rewrites them.
func (s *suite) machine(name string) *v1.VirtualMachine {
	strategy := v1.RunStrategyHalted
	guest := resource.MustParse("128Mi")
	grace := int64(5)
	return &v1.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": "compat"}},
		Spec: v1.VirtualMachineSpec{
			RunStrategy: &strategy,
			Template: &v1.VirtualMachineInstanceTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"kubevirt.io/domain": name}},
				Spec: v1.VirtualMachineInstanceSpec{
					Domain: v1.DomainSpec{
						Memory:    &v1.Memory{Guest: &guest},
						Resources: v1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("0.1")}},
						Devices: v1.Devices{
							Rng:        &v1.Rng{},
							Disks:      []v1.Disk{{Name: "system", DiskDevice: v1.DiskDevice{Disk: &v1.DiskTarget{Bus: v1.DiskBusVirtio}}}},
							Interfaces: []v1.Interface{*v1.DefaultMasqueradeNetworkInterface()},
						},
					},
					Networks:                      []v1.Network{*v1.DefaultPodNetwork()},
					TerminationGracePeriodSeconds: &grace,
					Volumes: []v1.Volume{
						{Name: "system", VolumeSource: v1.VolumeSource{ContainerDisk: &v1.ContainerDiskSource{Image: s.image, ImagePullPolicy: corev1.PullIfNotPresent}}},
						{Name: "seed", VolumeSource: v1.VolumeSource{CloudInitNoCloud: &v1.CloudInitNoCloudSource{UserData: "#cloud-config\nhostname: compat\n"}}},
					},
				},
			},
		},
	}
}

func create(ctx context.Context, s *suite) error {
	vm, err := s.client.VirtualMachine(s.namespace).Create(ctx, s.machine(machineName), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	firmware := vm.Spec.Template.Spec.Domain.Firmware
	if vm.UID == "" || firmware == nil || firmware.UUID == "" {
		return fmt.Errorf("the created machine lacks its uid or firmware uuid: %+v", vm)
	}
	return nil
}

// roundTrip writes back what it read through the typed client; the raw object must not change.
func roundTrip(ctx context.Context, s *suite) error {
	client := s.client.VirtualMachine(s.namespace)
	return s.withoutLoss(ctx, machines, func() (read, written string, err error) {
		vm, err := client.Get(ctx, machineName, metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		read = vm.ResourceVersion
		vm, err = client.Update(ctx, vm, metav1.UpdateOptions{})
		if err != nil {
			return "", "", err
		}
		return read, vm.ResourceVersion, nil
	})
}

func instanceRoundTrip(ctx context.Context, s *suite) error {
	client := s.client.VirtualMachineInstance(s.namespace)
	return s.withoutLoss(ctx, instances, func() (read, written string, err error) {
		vmi, err := client.Get(ctx, machineName, metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		read = vmi.ResourceVersion
		vmi, err = client.Update(ctx, vmi, metav1.UpdateOptions{})
		if err != nil {
			return "", "", err
		}
		return read, vmi.ResourceVersion, nil
	})
}

// withoutLoss compares the raw object before and after a rewrite, which says the revisions it read and wrote. The controllers write
// too: only when nobody else did in between are the differences ours, so it tries until that is so.
func (s *suite) withoutLoss(ctx context.Context, kind schema.GroupVersionResource, rewrite func() (read, written string, err error)) error {
	raw := func() (*unstructured.Unstructured, error) {
		return s.client.DynamicClient().Resource(kind).Namespace(s.namespace).Get(ctx, machineName, metav1.GetOptions{})
	}
	for {
		before, err := raw()
		if err != nil {
			return err
		}
		read, written, err := rewrite()
		if errors.IsConflict(err) {
			continue
		}
		if err != nil {
			return err
		}
		after, err := raw()
		if err != nil {
			return err
		}
		if read == before.GetResourceVersion() && written == after.GetResourceVersion() {
			return unchanged(before, after)
		}
	}
}

// unchanged refuses every difference in what a user may write.
func unchanged(before, after *unstructured.Unstructured) error {
	var lost []string
	for _, part := range []string{"spec", "metadata.labels", "metadata.annotations", "metadata.finalizers"} {
		path := strings.Split(part, ".")
		a, _, _ := unstructured.NestedFieldNoCopy(before.Object, path...)
		b, _, _ := unstructured.NestedFieldNoCopy(after.Object, path...)
		differences(part, a, b, &lost)
	}
	if len(lost) > 0 {
		return fmt.Errorf("get and put changed the object:\n  %s", strings.Join(lost, "\n  "))
	}
	return nil
}

// differences lists where two JSON values differ; amounts may be written differently.
func differences(path string, a, b any, out *[]string) {
	switch a := a.(type) {
	case map[string]any:
		other, _ := b.(map[string]any)
		for key, value := range a {
			differences(path+"."+key, value, other[key], out)
		}
		for key, value := range other {
			if _, known := a[key]; !known && value != nil {
				*out = append(*out, fmt.Sprintf("%s.%s: added %v", path, key, value))
			}
		}
		return
	case []any:
		if other, isList := b.([]any); isList && len(other) == len(a) {
			for i := range a {
				differences(fmt.Sprintf("%s[%d]", path, i), a[i], other[i], out)
			}
			return
		}
	}
	if reflect.DeepEqual(a, b) || sameAmount(a, b) {
		return
	}
	*out = append(*out, fmt.Sprintf("%s: %v became %v", path, a, b))
}

func sameAmount(a, b any) bool {
	left, err := resource.ParseQuantity(fmt.Sprint(a))
	if err != nil {
		return false
	}
	right, err := resource.ParseQuantity(fmt.Sprint(b))
	return err == nil && left.Cmp(right) == 0
}

func refusals(ctx context.Context, s *suite) error {
	vm := s.machine("refused")
	vm.Spec.Template.Spec.Domain.Devices.Disks = append(vm.Spec.Template.Spec.Domain.Devices.Disks, vm.Spec.Template.Spec.Domain.Devices.Disks[0])
	_, err := s.client.VirtualMachine(s.namespace).Create(ctx, vm, metav1.CreateOptions{})
	status, isStatus := err.(errors.APIStatus)
	if !errors.IsInvalid(err) || !isStatus {
		return fmt.Errorf("two disks of one name: want 422 Invalid, got %v", err)
	}
	details := status.Status().Details
	if details == nil || len(details.Causes) == 0 || !strings.HasSuffix(details.Causes[0].Field, "disks[1].name") {
		return fmt.Errorf("the cause does not name the disk: %+v", details)
	}
	return nil
}

func list(ctx context.Context, s *suite) error {
	found, err := s.client.VirtualMachine(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "test=compat"})
	if err != nil {
		return err
	}
	if len(found.Items) != 1 || found.Items[0].Name != machineName || found.ResourceVersion == "" {
		return fmt.Errorf("want one machine in the list, got %d", len(found.Items))
	}
	none, err := s.client.VirtualMachine(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "test=other"})
	if err != nil {
		return err
	}
	if len(none.Items) != 0 {
		return fmt.Errorf("the label selector lets %d machines through", len(none.Items))
	}
	return nil
}

// watchVM sees a change it makes itself, from the resourceVersion of a list on.
func watchVM(ctx context.Context, s *suite) error {
	client := s.client.VirtualMachine(s.namespace)
	found, err := client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	watcher, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: found.ResourceVersion})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	patch := []byte(fmt.Sprintf(`{"metadata":{"annotations":{"compat":%q}}}`, time.Now().Format(time.RFC3339Nano)))
	changed, err := client.Patch(ctx, machineName, "application/merge-patch+json", patch, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	for {
		select {
		case event, open := <-watcher.ResultChan():
			if !open {
				return fmt.Errorf("the watch ended before the change was seen")
			}
			vm, isVM := event.Object.(*v1.VirtualMachine)
			if event.Type == watch.Modified && isVM && vm.Annotations["compat"] == changed.Annotations["compat"] {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("the change was not seen: %w", ctx.Err())
		}
	}
}
