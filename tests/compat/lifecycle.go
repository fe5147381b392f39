package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	v1 "kubevirt.io/api/core/v1"
	kvcorev1 "kubevirt.io/client-go/kubevirt/typed/core/v1"
)

const poll = 200 * time.Millisecond

// until waits for a condition; what it last saw is in the error.
func until(ctx context.Context, what string, condition func() (done bool, seen string, err error)) error {
	last := ""
	err := wait.PollUntilContextCancel(ctx, poll, true, func(context.Context) (bool, error) {
		done, seen, err := condition()
		last = seen
		return done, err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s, last seen %s: %w", what, last, err)
	}
	return nil
}

func (s *suite) untilPhase(ctx context.Context, phase v1.VirtualMachineInstancePhase) error {
	return until(ctx, "phase "+string(phase), func() (bool, string, error) {
		vmi, err := s.client.VirtualMachineInstance(s.namespace).Get(ctx, machineName, metav1.GetOptions{})
		if errors.IsNotFound(err) {
			return false, "no instance", nil
		}
		if err != nil {
			return false, "", err
		}
		return vmi.Status.Phase == phase, string(vmi.Status.Phase), nil
	})
}

func stopStopped(ctx context.Context, s *suite) error {
	err := s.client.VirtualMachine(s.namespace).Stop(ctx, machineName, &v1.StopOptions{})
	if !errors.IsConflict(err) {
		return fmt.Errorf("want 409, got %v", err)
	}
	return nil
}

func start(ctx context.Context, s *suite) error {
	if err := s.client.VirtualMachine(s.namespace).Start(ctx, machineName, &v1.StartOptions{}); err != nil {
		return err
	}
	if err := s.untilPhase(ctx, v1.Running); err != nil {
		return err
	}
	return until(ctx, "the machine to be ready", func() (bool, string, error) {
		vm, err := s.client.VirtualMachine(s.namespace).Get(ctx, machineName, metav1.GetOptions{})
		if err != nil {
			return false, "", err
		}
		return vm.Status.Ready && vm.Status.Created, fmt.Sprintf("%s, ready %v", vm.Status.PrintableStatus, vm.Status.Ready), nil
	})
}

// guestOSInfo asks for facts only an agent knows; the guest has none, so the answer is an error with a reason, not an empty success.
func guestOSInfo(ctx context.Context, s *suite) error {
	_, err := s.client.VirtualMachineInstance(s.namespace).GuestOsInfo(ctx, machineName)
	status, isStatus := err.(errors.APIStatus)
	if err == nil || !isStatus {
		return fmt.Errorf("want an error of the API, got %v", err)
	}
	if code := status.Status().Code; code != http.StatusNotFound && code != http.StatusConflict {
		return fmt.Errorf("want 404 or 409, got %d: %w", code, err)
	}
	if status.Status().Message == "" {
		return fmt.Errorf("the error has no message")
	}
	return nil
}

// console reads the guest's serial console until it shows the wanted text, pressing return now and then.
func console(ctx context.Context, s *suite) error {
	stream, err := s.client.VirtualMachineInstance(s.namespace).SerialConsole(machineName, &kvcorev1.SerialConsoleOptions{ConnectionTimeout: time.Minute})
	if err != nil {
		return err
	}
	connection := stream.AsConn()
	defer connection.Close()
	shown := make(chan string, 16)
	failed := make(chan error, 1)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := connection.Read(buffer)
			if n > 0 {
				shown <- string(buffer[:n])
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	return expect(ctx, connection, shown, failed, s.console)
}

func expect(ctx context.Context, connection net.Conn, shown <-chan string, failed <-chan error, text string) error {
	seen := ""
	enter := time.NewTicker(2 * time.Second)
	defer enter.Stop()
	for !strings.Contains(seen, text) {
		select {
		case part := <-shown:
			seen += part
		case <-enter.C:
			if _, err := io.WriteString(connection, "\r"); err != nil {
				return fmt.Errorf("write to the console: %w", err)
			}
		case err := <-failed:
			return fmt.Errorf("the console ended before %q: %w; it showed %q", text, err, tail(seen))
		case <-ctx.Done():
			return fmt.Errorf("no %q on the console: %w; it showed %q", text, ctx.Err(), tail(seen))
		}
	}
	return nil
}

func tail(text string) string {
	const most = 400
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

func pause(ctx context.Context, s *suite) error {
	client := s.client.VirtualMachineInstance(s.namespace)
	if err := client.Pause(ctx, machineName, &v1.PauseOptions{}); err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	paused := func(want bool) error {
		return until(ctx, fmt.Sprintf("condition Paused to be %v", want), func() (bool, string, error) {
			vmi, err := client.Get(ctx, machineName, metav1.GetOptions{})
			if err != nil {
				return false, "", err
			}
			for _, condition := range vmi.Status.Conditions {
				if condition.Type == v1.VirtualMachineInstancePaused {
					return want == (condition.Status == "True"), string(condition.Status), nil
				}
			}
			return !want, "no condition", nil
		})
	}
	if err := paused(true); err != nil {
		return err
	}
	if err := client.Unpause(ctx, machineName, &v1.UnpauseOptions{}); err != nil {
		return fmt.Errorf("unpause: %w", err)
	}
	return paused(false)
}

func stop(ctx context.Context, s *suite) error {
	if err := s.client.VirtualMachine(s.namespace).Stop(ctx, machineName, &v1.StopOptions{}); err != nil {
		return err
	}
	return until(ctx, "the instance to be gone", func() (bool, string, error) {
		vmi, err := s.client.VirtualMachineInstance(s.namespace).Get(ctx, machineName, metav1.GetOptions{})
		if errors.IsNotFound(err) {
			return true, "gone", nil
		}
		if err != nil {
			return false, "", err
		}
		return false, string(vmi.Status.Phase), nil
	})
}

func remove(ctx context.Context, s *suite) error {
	client := s.client.VirtualMachine(s.namespace)
	if err := client.Delete(ctx, machineName, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return until(ctx, "the machine to be gone", func() (bool, string, error) {
		vm, err := client.Get(ctx, machineName, metav1.GetOptions{})
		if errors.IsNotFound(err) {
			return true, "gone", nil
		}
		if err != nil {
			return false, "", err
		}
		return false, string(vm.Status.PrintableStatus), nil
	})
}
