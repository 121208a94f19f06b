// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Load is what a guest writes; the numbers of the writing guest (../../evacuate/writer.h).
type Load struct {
	Sectors, Window, Random, Seed, Depth, Pace, ID, BaseSectors uint32
}

func (l Load) numbers() []string {
	return strings.Fields(fmt.Sprintf("sectors=%d window=%d start=2048 random=%d seed=%d depth=%d pace=%d id=%d",
		l.Sectors, l.Window, l.Random, l.Seed, l.Depth, l.Pace, l.ID))
}

// QEMU is one process, started as LXD starts its own: a disk node lxd_root, a device dev-lxd_root.
type QEMU struct {
	*Monitor
	dir     string
	process *exec.Cmd
	ended   chan struct{}
	log     bytes.Buffer
}

const qdev = "/machine/peripheral/dev-lxd_root/virtio-backend" // what block_set_io_throttle takes with virtio-blk

// processes starts what must not outlive us. The kernel kills a child when the thread that started it ends, so all of
// them come from one thread that lives as long as we do.
var processes = make(chan func())

func init() {
	go func() {
		runtime.LockOSThread()
		for start := range processes {
			start()
		}
	}()
}

func startProcess(c *exec.Cmd) error {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C is for us alone
	err := make(chan error)
	processes <- func() { err <- c.Start() }
	return <-err
}

func startQEMU(dir, image, kernel string, load Load, incoming bool) (*QEMU, error) {
	if err := os.MkdirAll(dir, 0700); err != nil {
		return nil, err
	}
	q := &QEMU{dir: dir, ended: make(chan struct{})}
	args := []string{"-accel", "tcg", "-M", "q35,usb=off,memory-backend=ram",
		"-object", "memory-backend-file,id=ram,size=16M,mem-path=" + q.memory() + ",share=on", "-m", "16M",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-qmp", "unix:" + q.path("qmp") + ",server=on,wait=off",
		"-blockdev", `{"node-name":"lxd_root","driver":"raw","discard":"unmap","file":{"driver":"file","filename":"` + image + `","locking":"off"}}`,
		"-device", "virtio-blk-pci,id=dev-lxd_root,drive=lxd_root,disable-modern=on"}
	if kernel != "" {
		args = append(args, "-kernel", kernel, "-append", strings.Join(load.numbers(), " "))
	} else {
		args = append(args, "-S") // nobody in it
	}
	if incoming {
		args = append(args, "-incoming", "defer")
	}
	program := os.Getenv("MIGBUF_QEMU")
	if program == "" {
		program = "qemu-system-x86_64"
	}
	q.process = exec.Command(program, args...)
	q.process.Stdout, q.process.Stderr = &q.log, &q.log
	if err := startProcess(q.process); err != nil {
		return nil, err
	}
	go func() { _ = q.process.Wait(); close(q.ended) }()
	var err error
	if q.Monitor, err = connect(q.path("qmp")); err != nil {
		q.end()
		return nil, fmt.Errorf("%s: %w; it said: %s", dir, err, q.log.String())
	}
	return q, nil
}

func (q *QEMU) path(name string) string { return filepath.Join(q.dir, name) }
func (q *QEMU) memory() string          { return q.path("memory") }

// acknowledged is how many writes the guest was told to be safe, out of the status block in its memory (guest.h).
func (q *QEMU) acknowledged() uint32 {
	f, err := os.Open(q.memory())
	if err != nil {
		return 0
	}
	defer f.Close()
	var status [28]byte
	if _, err := f.ReadAt(status[:], 0x600); err != nil || binary.LittleEndian.Uint32(status[:]) != 0x4b41424d {
		return 0
	}
	return binary.LittleEndian.Uint32(status[24:])
}

// writes waits until the guest has been told of more writes than before.
func (q *QEMU) writes(before uint32) error {
	for deadline := time.Now().Add(60 * time.Second); q.acknowledged() <= before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: the guest does not write; QEMU said: %s", q.dir, q.log.String())
		}
	}
	return nil
}

// hang stops the process a moment from now, for so long: what it is told meanwhile it does afterwards. The function it
// returns has it go on at once.
func (q *QEMU) hang(long time.Duration) (goOn func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if sleep(ctx, time.Second) == nil && q.process.Process.Signal(syscall.SIGSTOP) == nil {
			_ = sleep(ctx, long)
			_ = q.process.Process.Signal(syscall.SIGCONT)
		}
	}()
	return func() { cancel(); <-done }
}

// unheard tells it something while it hangs, and waits for no answer: it does so later. After an error nothing was sent. Its
// turn comes first: while it hangs no other command gives the turn back.
func (q *QEMU) unheard(ctx context.Context, command string) error {
	giveBack, err := q.takeTurn(ctx)
	if err != nil {
		return err
	}
	defer giveBack()
	if err = q.process.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	id, _, err := q.expect()
	if err == nil {
		err = q.send(ctx, id, command, nil, nil)
		q.expectNoMore(id)
	}
	if e := q.process.Process.Signal(syscall.SIGCONT); err == nil {
		err = e
	}
	return err
}

func (q *QEMU) lives() bool {
	select {
	case <-q.ended:
		return false
	default:
		return true
	}
}

// end ends the process, politely first. Twice is fine.
func (q *QEMU) end() {
	if q == nil {
		return
	}
	if q.Monitor != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = q.Run(ctx, "quit", nil, nil)
		cancel()
		defer q.Monitor.Close()
	}
	select {
	case <-q.ended:
	case <-time.After(5 * time.Second):
		_ = q.process.Process.Kill()
		<-q.ended
	}
}
