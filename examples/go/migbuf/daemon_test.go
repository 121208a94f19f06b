// SPDX-License-Identifier: MIT

package migbuf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"migbuf.example/migbuf"
)

// What README.md shows under "In a daemon", where it runs: a daemon that is a stand-in, with a monitor of its own kind.

type server struct {
	volume, stateDir string
	vms              map[string]*instance
	buffer           *migbuf.Host
}

type instance struct {
	name    string
	qemu    *overlaid
	monitor *plainMonitor
	size    uint64
	dir     string
	breaks  string
	stands  bool
}

// plainMonitor knows no contexts, and one error for all that can go wrong.
type plainMonitor struct{ q *overlaid }

func (m *plainMonitor) Run(command string, args any, resp any) error {
	return m.q.Run(context.Background(), command, args, resp)
}

var errBreaks = errors.New("the other host is gone")

func (i *instance) step(name string) error {
	if i.breaks == name {
		return errBreaks
	}
	return nil
}

func (i *instance) createOverlay(path string) (*os.File, error) { return os.Create(path) }
func (i *instance) snapshot(*os.File) error {
	if err := i.step("snapshot"); err != nil {
		return err
	}
	i.qemu.puts("lxd_root_snapshot")
	return nil
}
func (i *instance) mirror() error                        { return i.step("mirror") }
func (i *instance) sendMemory() error                    { return i.step("memory") }
func (i *instance) cancelMirror() error                  { return i.step("cancel") }
func (i *instance) stopQEMU() error                      { i.qemu.puts("lxd_root"); return nil }
func (i *instance) commit(context.Context) error         { return nil }
func (i *instance) completeCommit(context.Context) error { i.qemu.puts("lxd_root"); return nil }
func (i *instance) sendBase(progress func(bytes uint64) error) error {
	if err := progress(i.size / 2); err != nil {
		return err
	}
	return i.step("base")
}

// Glue.

func (s *server) openBuffer(ctx context.Context) (err error) {
	s.buffer, err = migbuf.OpenHost(ctx, migbuf.HostConfig{
		Volume: s.volume,
		State:  filepath.Join(s.stateDir, "migbuf"),
		Monitor: func(_ context.Context, name string) (migbuf.Monitor, error) {
			vm := s.vms[name]
			if vm == nil {
				return nil, migbuf.ErrNotFound
			}
			return vm.throttled(), nil
		},
	})
	return err
}

func (i *instance) throttled() migbuf.Monitor {
	return migbuf.FromRunner(i.monitor, migbuf.RefusedByText)
}

func (i *instance) forBuffer() migbuf.HostVM {
	root := migbuf.HostDisk{Node: migbuf.LXDNames("root").Node, Geometry: migbuf.NewGeometry(i.size)}
	return migbuf.HostVM{Name: i.name, Monitor: i.throttled(), Disks: []migbuf.HostDisk{root}}
}

// The migration function.

func (s *server) migrate(ctx context.Context, vm *instance) error {
	m, err := s.buffer.Migrate(ctx, vm.forBuffer()) // +
	if err != nil {                                 // +
		return err // +
	} // +
	defer m.GiveUp(ctx) // +
	moved := false
	file, err := vm.createOverlay(m.Path(vm.dir + "/overlay.qcow2")) // +
	if err != nil {
		return err
	}
	defer file.Close()
	if err := m.Overlay(ctx, 0, file); err != nil { // +
		return err // +
	} // +
	if err := vm.snapshot(file); err != nil {
		return err
	}
	defer func() {
		if !moved {
			_ = m.Merge(context.Background(), vm.commit, vm.completeCommit) // +
		}
	}()
	if err := vm.sendBase(m.Sent); err != nil { // +
		return err
	}
	if err := vm.mirror(); err != nil {
		return err
	}
	if err := m.Mirror(ctx); err != nil { // +
		return err // +
	} // +
	if err := m.Memory(ctx); err != nil { // +
		return err // +
	} // +
	if err := vm.sendMemory(); err != nil {
		return err
	}
	if err := vm.cancelMirror(); err != nil {
		return err
	}
	moved = true
	if err := vm.stopQEMU(); err != nil {
		return err
	}
	return m.Finish(ctx) // +
}

// The daemon with a Host and without, with each step that breaks.
func TestInADaemon(t *testing.T) {
	ctx := context.Background()
	for _, configured := range []bool{true, false} {
		for _, breaks := range []string{"", "snapshot", "base", "mirror", "memory", "cancel"} {
			qemu := &overlaid{top: "lxd_root", inForce: migbuf.ThrottleConfig{IopsWr: 500}}
			vm := &instance{name: "vm1", qemu: qemu, monitor: &plainMonitor{qemu}, size: 1 << 30, dir: t.TempDir(), breaks: breaks}
			s := &server{stateDir: t.TempDir(), vms: map[string]*instance{"vm1": vm}}
			if configured {
				s.volume = t.TempDir()
			}
			if err := s.openBuffer(ctx); err != nil || (s.buffer != nil) != configured {
				t.Fatal(s.buffer, err)
			}
			if err := s.migrate(ctx, vm); (err != nil) != (breaks != "") {
				t.Error(breaks, err)
			}
			if s.buffer.Stats().Members != 0 || qemu.onTop() != "lxd_root" || (breaks != "" && qemu.limits() != (migbuf.ThrottleConfig{IopsWr: 500})) {
				t.Errorf("%q: %+v, %+v, %s", breaks, s.buffer.Stats(), qemu.limits(), qemu.onTop())
			}
			if err := s.buffer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func (q *overlaid) onTop() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.top
}

// README shows these lines, and counts them right.
func TestReadmeShowsTheDaemon(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("daemon_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\n## In a daemon\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	_, code, _ := strings.Cut(string(own), "// Glue.\n\n")
	glue, function, _ := strings.Cut(code, "\n// The migration function.\n\n")
	function, _, _ = strings.Cut(function, "\n// The daemon with")
	if !strings.Contains(rest, "```go\n"+glue+"```\n") || !strings.Contains(rest, "```go\n"+function+"```\n") {
		t.Error("README.md shows other lines")
	}
	calls := map[string]int{} // lines of the function, by the call that they belong to
	call := ""
	for _, line := range strings.Split(function, "\n") {
		if strings.Contains(line, "// +") {
			if found := regexp.MustCompile(`\b(?:m|buffer)\.([A-Z][a-z]+[A-Za-z]*)`).FindStringSubmatch(line); found != nil {
				call = found[1]
			}
			calls[call]++
		}
	}
	for name, n := range calls {
		if !strings.Contains(string(readme), fmt.Sprintf("\n| `%s` | %d | ", name, n)) {
			t.Error(name, "takes", n, "lines of the function")
		}
	}
	host, err := os.ReadFile("../evacuate/migrate.go")
	if err != nil {
		t.Fatal(err)
	}
	split := 0
	for _, part := range regexp.MustCompile(`(?ms)^(?:type job struct|func \(v \*VM\) (?:job|waitJob|mergeBack)\().*?^}`).FindAllString(string(host), -1) {
		split += strings.Count(part, "\n") + 1
	}
	if !strings.Contains(string(readme), fmt.Sprintf("%d lines in [`evacuate`](evacuate/migrate.go)", split)) {
		t.Error("the commit in two parts is", split, "lines")
	}
	lines := 0
	for _, line := range strings.Split(glue, "\n") {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if changed := strings.Count(function, "// +"); lines > 30 || changed > 25 || !strings.Contains(rest, "21 lines of glue") || !strings.Contains(rest, "18 lines of the function") {
		t.Error(lines, "lines of glue,", changed, "of the function")
	}
}
