// SPDX-License-Identifier: MIT

// Command evacuate moves small writing VMs between pairs of QEMUs without shared storage, as a host written in Go would
// with migbuf: its own monitor, its own files, its own goroutines. The program of the same name in C shows more; this one
// is to be read.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"migbuf.example/migbuf"
)

var errGivenUp = errors.New("given up, as was asked for")

// tools are the programs this one calls.
type tools struct{ guest, writer string }

func (t tools) run(name string, arguments ...string) error {
	out, err := exec.Command(name, arguments...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// say prints progress; with -json it goes to standard error.
var (
	began    = time.Now()
	progress = os.Stdout
)

func say(format string, values ...any) {
	fmt.Fprintf(progress, "%6.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, values...))
}

// log has a Host's news among the program's.
type log struct{}

func (log) Debug(string, ...any)             {}
func (log) Info(text string, more ...any)    { say("%s %v", text, more) }
func (l log) Warn(text string, more ...any)  { l.Info(text, more...) }
func (l log) Error(text string, more ...any) { l.Info(text, more...) }

const linkID = 1 // everybody shares one link

// Wire is the link all share: so many bytes a second, first come first served.
type Wire struct {
	rate    int
	flows   int
	mu      sync.Mutex
	free    time.Time // when it has sent what was given to it
	bytes   uint64
	waiters int
}

func (w *Wire) share() int { return w.rate / w.flows }

func (w *Wire) send(ctx context.Context, n int) error {
	w.mu.Lock()
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(n) / float64(w.rate) * 1e9))
	until := time.Until(w.free)
	w.waiters++
	w.mu.Unlock()
	err := sleep(ctx, until)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiters--
	w.bytes += uint64(n)
	return err
}

// carried is how much it carried, and whether somebody waits for it.
func (w *Wire) carried() (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes, w.waiters > 0
}

// Summary of a run.
type Summary struct {
	VMs            int     `json:"vms"`
	Moved          int     `json:"moved"`
	Reverted       int     `json:"reverted"`
	Writes         int     `json:"writes_checked"`
	Lost           int     `json:"writes_lost"`
	LimitsRestored bool    `json:"limits_restored"`
	Overflows      int     `json:"overflows"`
	BufferBytes    uint64  `json:"buffer_bytes"`
	PeakBytes      uint64  `json:"buffer_peak_bytes"`
	Decisions      int     `json:"decisions"`
	Pauses         int     `json:"pauses"`
	Refused        int     `json:"refused"`
	Unknown        int     `json:"unknown"`
	LateTicks      uint64  `json:"late_ticks"`
	SlowestMs      int64   `json:"slowest_limit_ms"`
	Seconds        float64 `json:"seconds"`
}

func main() {
	vms := flag.Int("vms", 3, "VMs to move, 1 to 16")
	buffer := flag.Int("buffer", 64, "the volume all share, MiB")
	rate := flag.Int("link", 12, "the link all share, MB/s")
	policy := flag.String("policy", "planner", "planner, paper, or literal, which overflows")
	giveUp := flag.String("give-up", "", "VM:WHERE,…: these VMs' migrations are given up and reverted, when their base is copied\n(base), their disk is mirrored (mirror), nobody hears whether they stand (stop) or their memory is sent (memory)")
	hang := flag.Int("hang", -1, "this VM's QEMU does nothing for three seconds while its base is copied")
	tree := flag.String("build", "build", "migbuf's build tree, for the guest and its checker")
	asJSON := flag.Bool("json", false, "the summary as JSON on standard output")
	flag.Parse()
	policies := map[string]migbuf.Policy{"paper": migbuf.PolicyPaper, "planner": migbuf.PolicyPlanner, "literal": migbuf.PolicyLiteral}
	where, err := givenUp(*giveUp, *vms)
	if err != nil {
		fmt.Fprintln(os.Stderr, "evacuate: -give-up:", err)
	}
	if err != nil || *vms < 1 || *vms > 16 || *buffer < 16 || *rate < 1 || policies[*policy] == 0 || *hang >= *vms || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *asJSON {
		progress = os.Stderr
	}
	if os.Getenv("EVACUATE_INSIDE") == "" {
		os.Exit(inPrivateMounts())
	}
	t := tools{guest: filepath.Join(*tree, "examples/evacuate/guest.elf"), writer: filepath.Join(*tree, "examples/evacuate/writer")}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := evacuate(ctx, t, *vms, *buffer<<20, *rate*1000000, policies[*policy], where, *hang)
	if err != nil {
		fmt.Fprintln(os.Stderr, "evacuate:", err)
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(s)
	} else {
		fmt.Printf("%d of %d VMs moved in %.1f s, %d went back, %d writes checked, %d lost, buffer peak %.0f %%, %d overflows\n",
			s.Moved, s.VMs, s.Seconds, s.Reverted, s.Writes, s.Lost, float64(s.PeakBytes)*100/float64(s.BufferBytes+1), s.Overflows)
	}
	if err != nil || s.Lost > 0 || s.Overflows > 0 || !s.LimitsRestored || s.Moved+s.Reverted < s.VMs {
		os.Exit(1)
	}
}

// inPrivateMounts runs this program again where its mounts are its own and end with it.
func inPrivateMounts() int {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), "EVACUATE_INSIDE=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() != 0 {
		id := func(n int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: n, Size: 1}} }
		c.SysProcAttr.Cloneflags, c.SysProcAttr.UidMappings, c.SysProcAttr.GidMappings = syscall.CLONE_NEWUSER, id(os.Getuid()), id(os.Getgid())
	}
	signal.Ignore(os.Interrupt) // it is for the one inside, which ends
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "evacuate: a mount namespace of its own (root or user namespaces):", err)
		return 2
	}
	return c.ProcessState.ExitCode()
}

// givenUp reads "0:base,2:memory".
func givenUp(text string, vms int) (map[int]string, error) {
	where := map[int]string{}
	for _, one := range strings.Split(text, ",") {
		if text == "" {
			break
		}
		vm, at, _ := strings.Cut(one, ":")
		n, err := strconv.Atoi(vm)
		if err != nil || n < 0 || n >= vms || (at != "base" && at != "mirror" && at != "stop" && at != "memory") {
			return nil, fmt.Errorf("%q is no VM and a place where to give it up, as 0:base", one)
		}
		where[n] = at
	}
	return where, nil
}

func loads(n int) []Load {
	kinds := []Load{
		{Sectors: 128, Window: 800, Depth: 4, Pace: 110},            // sequential, 64 KiB
		{Sectors: 8, Window: 12000, Random: 1, Depth: 4, Pace: 130}, // random, 4 KiB
		{Sectors: 32, Window: 3200, Random: 1, Depth: 2, Pace: 100}, // random, 16 KiB
	}
	out := make([]Load, n)
	for i := range out {
		out[i] = kinds[i%len(kinds)]
		out[i].ID, out[i].Seed, out[i].BaseSectors = uint32(i+1), uint32(i+1), 24<<20/512
	}
	return out
}

func evacuate(ctx context.Context, t tools, n, bufferBytes, rate int, policy migbuf.Policy, giveUp map[int]string, hang int) (s Summary, err error) {
	s.VMs = n
	dir, err := os.MkdirTemp("", "evacuate-go-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	volume := filepath.Join(dir, "volume")
	if err := os.Mkdir(volume, 0700); err != nil {
		return s, err
	}
	if err := syscall.Mount("migbuf", volume, "tmpfs", syscall.MS_NODEV|syscall.MS_NOSUID, fmt.Sprintf("size=%d", bufferBytes)); err != nil {
		return s, fmt.Errorf("mounting the volume: %w", err)
	}
	defer func() { _ = syscall.Unmount(volume, syscall.MNT_DETACH) }()
	root, err := os.Open(volume)
	if err != nil {
		return s, err
	}
	defer root.Close()

	vms := make([]*VM, n)
	defer func() {
		for _, v := range vms {
			if v != nil {
				v.source.end()
				v.target.end()
			}
		}
	}()
	for i, load := range loads(n) {
		vms[i] = &VM{load: load, dir: fmt.Sprintf("%s/vm%d", dir, i), giveUp: giveUp[i], hangs: i == hang}
		if err := vms[i].start(ctx, t); err != nil {
			return s, err
		}
	}
	say("%d guests write; they leave over %d MB/s, through %d MiB", n, rate/1000000, bufferBytes>>20)

	link := &Wire{rate: rate, flows: n}
	options := migbuf.BufferOptions{Policy: policy, IntervalMs: 250, LagMs: 1000, LateFactorPercent: 400} // a busy machine
	h, err := migbuf.OpenHost(ctx, migbuf.HostConfig{Volume: volume, State: filepath.Join(dir, "migbuf"), Options: &options, Log: log{},
		Link: func(uint64) (uint64, bool, error) {
			bytes, waited := link.carried()
			return bytes, !waited, nil
		},
		Monitor: func(_ context.Context, name string) (migbuf.Monitor, error) {
			for _, v := range vms {
				if v.name() == name && v.source.lives() {
					return v.source, nil
				}
			}
			return nil, migbuf.ErrNotFound
		}})
	if err != nil {
		return s, err
	}
	defer h.Close()

	start := time.Now()
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i, v := range vms {
		wait.Add(1)
		go func(i int, v *VM) {
			defer wait.Done()
			errs[i] = v.migrate(ctx, h, t, volume, link)
			if v.moved {
				say("vm%d runs at the target", i)
			} else {
				say("vm%d: %v; it runs at the source, its writes merged back: %v", i, errs[i], v.overlayGone)
			}
		}(i, v)
	}
	wait.Wait()
	s.Seconds = time.Since(start).Seconds()
	did := h.Stats()
	stats, err := h.Buffer().Stats()
	if err != nil {
		return s, err
	}
	if err = h.Close(); err != nil {
		return s, err
	}

	s.LimitsRestored = true
	for i, v := range vms {
		s.Overflows += v.source.ioErrors()
		if v.moved {
			s.Moved++
		} else if errors.Is(errs[i], errGivenUp) || errors.Is(errs[i], context.Canceled) {
			s.Reverted++
		} else if err == nil {
			err = fmt.Errorf("vm%d: %w", i, errs[i])
		}
		s.LimitsRestored = s.LimitsRestored && v.restored
		writes, lost, e := v.check(context.Background(), t)
		if e != nil && err == nil {
			err = e
		}
		s.Writes += writes
		s.Lost += lost
	}
	v, _ := migbuf.CowVolume(root)
	s.BufferBytes, s.PeakBytes = v.SizeBytes, did.PeakBytes
	s.LateTicks, s.SlowestMs = stats.LateTicks, did.Slowest.Milliseconds()
	s.Decisions, s.Pauses, s.Refused, s.Unknown = int(did.Decisions), int(did.Pauses), int(did.Refused), int(did.Unknown)
	return s, err
}
