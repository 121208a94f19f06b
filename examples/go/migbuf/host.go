// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"errors"
	"math"
	"os"
	"sync"
	"syscall"
	"time"
)

// Logger is what a [Host] logs to. The *Logger of log/slog is one: a sentence, then names and values by turns. It may ask
// the Host, but ticks wait while it writes: it must not wait for a migration.
type Logger interface {
	Debug(msg string, args ...any)
	Info(msg string, args ...any)
	Warn(msg string, args ...any)
	Error(msg string, args ...any)
}

type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// HostConfig is what a [Host] has to know of its daemon. Its functions may be called by several goroutines at once.
type HostConfig struct {
	Volume string // a directory of the volume where all overlays are made; "": there is no Host, and all its calls do nothing
	State  string // a file of the daemon's, kept for a process that starts anew. It need not survive the machine: QEMU does not either

	// Monitor is the monitor of a VM's QEMU: the connection that the daemon has, or a new one. It is asked for a VM that a
	// process before this one was migrating, and where a QEMU does not answer on the way back. An error that matches
	// ErrNotFound says that this QEMU is gone. It heeds its context. nil: an error if an earlier process has left any.
	Monitor func(ctx context.Context, name string) (Monitor, error)

	// Link is how many bytes a link has carried, by its number in HostVM.Migration: a counter that rises. atLeast says
	// that nobody waited for the link, so that it could have carried more. It must not wait. nil: the sum of Member.Sent.
	Link func(link uint64) (bytes uint64, atLeast bool, err error)

	// History is where the histories of VMs are kept: what is written down of a migration serves the VM's next one. nil: nowhere.
	History HistoryStore
	Name    string // this host's, in histories; "": not told

	CapacityBytes uint64         // of the volume, for overlays; 0, or more than that: what is free in it while nobody migrates. Where migrations are taken on it is as it was
	Options       *BufferOptions // nil: the library's, with LagMs 1000, as a daemon's monitors have their time-outs
	Order         Order          // in which those that wait start; 0: OrderShortest
	Log           Logger         // nil: nothing is logged
}

// HostStats is what a [Host] has done since it was opened: for metrics.
type HostStats struct {
	Members   int           // migrations under control
	Waiting   int           // those that wait for their turn or for room
	PeakBytes uint64        // most that was used of the volume, by whomever
	Decisions uint64        // that there was something to do for
	Pauses    uint64        // of them those that stop a guest
	Refused   uint64        // decisions that QEMU refused, or that waited as the state could not be saved
	Unknown   uint64        // decisions, and looks, for which QEMU did not answer in time
	Slowest   time.Duration // longest from a tick until its last decision was in force or unknown
}

// Host is what a daemon has of migbuf: one [Buffer] for all its migrations, the goroutine that ticks, the descriptors of
// the overlays, who waits for his turn, and what a process that starts anew has to know. A daemon's migration function
// makes these calls:
//
//	host, err := migbuf.OpenHost(ctx, config)     // once
//	m, err := host.Migrate(ctx, vm)               // its turn has come, there is room, its first limit is in force
//	defer m.GiveUp(ctx)                           // the way back; nothing after Finish
//	path := m.Path(where)                         // make the overlay there
//	err = m.Overlay(ctx, 0, file)                 // its size is measured from here
//	err = m.Sent(bytes)                           // now and then
//	err = m.Mirror(ctx)                           // the mirror was started
//	err = m.Memory(ctx)                           // from here on the migration stops the guest and lets it run
//	err = m.Drained(ctx, 0)                       // the mirror has ended
//	err = m.Finish(ctx)                           // it has moved, and its QEMU here has ended
//	err = m.Merge(ctx, begin, complete)           // on the way back: around the daemon's own commit
//
// With HostConfig.History three more serve the VM's next migration:
//
//	plan, err := m.PlanMemory(agreement, 0)       // before `migrate`: what to set in QEMU, and what is expected
//	err = m.RAM(&report)                          // each answer of query-migrate
//	err = m.Because(migbuf.AttemptWhyLinkDown)    // before GiveUp, where the daemon knows why
//
// All methods of a nil *Host and of a nil [*Member] do nothing and return nil, so that a daemon where migbuf is not
// configured needs no branch. Any goroutine may call them. One VM's QEMU that hangs holds up nobody else.
type Host struct {
	config   HostConfig
	root     *os.File
	buffer   *Buffer
	interval time.Duration
	lag      time.Duration

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wait   sync.WaitGroup // for every goroutine but those inside a monitor's Run
	kick   chan struct{}  // tick now

	decisions []Decision // of the last tick; the loop's own

	saving sync.Mutex // of the state's file; taken before mu

	mu      sync.Mutex // of all below; never held while anything is asked of QEMU
	closed  bool
	ticked  chan struct{} // closed after each tick
	members map[uint64]*Member
	queue   []*Member
	last    uint64 // the number given last
	links   map[uint64]*hostLink
	stats   HostStats
	trouble map[string]string // what was complained about last

	attempts []pendingAttempt // have ended, and are not in the VM's history yet
	keeping  bool             // that is under way
}

type hostLink struct {
	flow LinkFlow
	link Link

	sent  uint64  // by members that have ended. Of the Host's mu, as is speed
	speed float64 // 0: not known
}

// HostVM is one VM that is to be migrated.
type HostVM struct {
	Name      string     // the daemon's own, kept with the state
	Monitor   Monitor    // of its QEMU
	Disks     []HostDisk // those that get an overlay: 1 to 16
	ID        string     // the VM's in its history, at most 64 bytes; "": its Name. Its uuid is best
	To        string     // the host it is to go to, for its history; "": not told
	RAMBytes  uint64     // its memory, for PlanMemory; 0: not told
	SixRates  bool       // the monitor can only set six rates, [FromLXD]; GeometryNoIopsSize is added
	Migration Migration  // its link, weight and so on; the ID is given by the Host. The zero value has the defaults
}

// HostDisk is one disk of a VM that gets an overlay.
type HostDisk struct {
	Node     string   // what its device sees before the overlay is made: [LXDNames], [IncusNames]
	Geometry Geometry // [NewGeometry] of its size, and what else is known
}

// OpenHost opens the volume, loads the state of a process before this one where there is any, and starts to tick. It does
// not wait for QEMU.
//
// A migration that the earlier process did not end is taken on: its limits stay in force as the [Buffer] decides, until the
// daemon ends it ([Host.Member]) or its disks are on no overlay any more. Then the daemon's own limits are given back. One
// whose QEMU is gone is forgotten.
//
// It returns nil without an error where config.Volume is "". Errors: ErrSystem, ErrUnsupported for the volume, ErrRange,
// ErrInvalid for the config, ErrProtocol for a state that is damaged (it stays as it is), ErrTimeout when ctx has ended.
func OpenHost(ctx context.Context, config HostConfig) (*Host, error) {
	const op = "host_open"
	if config.Volume == "" {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, interrupted(op, ctx)
	}
	if config.State == "" {
		return nil, &Error{Op: op, Code: ErrInvalid, Text: "State is empty: a new process could not tell the daemon's limits from ours"}
	}
	if config.Log == nil {
		config.Log = silent{}
	}
	if config.Order == 0 {
		config.Order = OrderShortest
	}
	h := &Host{config: config, kick: make(chan struct{}, 1), ticked: make(chan struct{}), members: map[uint64]*Member{},
		links: map[uint64]*hostLink{}, trouble: map[string]string{}}
	var err error
	if h.root, err = os.OpenFile(config.Volume, syscall.O_DIRECTORY, 0); err != nil {
		return nil, &Error{Op: op, Code: ErrSystem, Text: "the volume cannot be opened", Cause: err}
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	if err = h.load(); err == nil && h.buffer == nil {
		err = h.begin()
	}
	if err == nil {
		err = h.save()
	}
	if err != nil {
		h.cancel()
		h.free()
		return nil, err
	}
	left := make([]*Member, 0, len(h.members)) // the first that is taken on may end before the last is begun
	for _, m := range h.members {
		left = append(left, m)
	}
	for _, m := range left {
		m := m
		h.spawn(func() { h.takeOn(m) })
	}
	h.spawn(h.loop)
	return h, nil
}

// spawn starts a goroutine that Close waits for, unless it is closed.
func (h *Host) spawn(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wait.Add(1)
	go func() { defer h.wait.Done(); f() }()
	return true
}

// begin makes the buffer of a daemon that has no migrations.
func (h *Host) begin() error {
	v, err := CowVolume(h.root)
	if err != nil {
		return err
	}
	if own := h.config.CapacityBytes; own > v.FreeBytes { // a bound that the volume does not have is none
		h.config.Log.Warn("CapacityBytes is more than is free in the volume, which counts", "bytes", own, "free_bytes", v.FreeBytes)
	} else if own != 0 {
		v.FreeBytes = own
	}
	options := DefaultBufferOptions()
	options.LagMs = 1000
	if h.config.Options != nil {
		options = orDefaults(*h.config.Options, options)
	}
	if options.LagMs == 0 {
		return &Error{Op: "host_open", Code: ErrRange, Text: "LagMs is 0: nothing could be asked of QEMU in that time"}
	}
	h.interval, h.lag = time.Duration(options.IntervalMs)*time.Millisecond, time.Duration(options.LagMs)*time.Millisecond
	h.buffer, err = NewBuffer(v.FreeBytes, &options)
	return err
}

// Close ends the ticking and saves the state. QEMU keeps the limits that are in force, for the process that comes next:
// who closes a Host for good ends its migrations first. Calls that wait return. A goroutine that is inside the Run of a
// monitor ends with it. Closing it twice is fine.
func (h *Host) Close() error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	was := h.closed
	h.closed = true
	h.cancel() // who sees the one sees the other
	h.mu.Unlock()
	h.wait.Wait()
	if was {
		return nil
	}
	err := h.save()
	h.free()
	return err
}

func (h *Host) free() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.members {
		m.free()
	}
	if h.buffer != nil {
		h.buffer.Close()
	}
	h.root.Close()
}

// Buffer is the Host's, for what needs no care: Stats, View, Outlook, Weight, Resize. Add, Remove, Phase, Sample, Tick,
// Outcome and Resync are the Host's own to call. nil for nil.
func (h *Host) Buffer() *Buffer {
	if h == nil {
		return nil
	}
	return h.buffer
}

// Stats tells what it has done. Zero for nil.
func (h *Host) Stats() HostStats {
	if h == nil {
		return HostStats{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Members, s.Waiting = len(h.members), len(h.queue)
	return s
}

// Member is the migration of the VM with that name: for a daemon that starts anew and ends what an earlier process began.
// nil when there is none.
func (h *Host) Member(name string) *Member {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.named(name)
}

func (h *Host) named(name string) *Member {
	for _, m := range h.members {
		if m.name == name {
			return m
		}
	}
	return nil
}

// TellHostLimits is for a daemon that is about to change its own limits of a disk. told is true when that VM migrates:
// these limits will be given back in the end, and nothing is to be set in QEMU now. Errors: those of [Disk.TellHostLimits],
// ErrTimeout when ctx ends before what is under way has.
func (h *Host) TellHostLimits(ctx context.Context, name, node string, limits ThrottleConfig) (told bool, err error) {
	m := h.Member(name)
	if m == nil {
		return false, nil
	}
	if err := m.enter(ctx, "host_tell_host_limits"); err != nil { // no other Disk takes its place meanwhile
		return true, err
	}
	defer m.leaveGuest()
	h.mu.Lock()
	disk, over := m.disk, m.over
	h.mu.Unlock()
	if over {
		return false, nil
	}
	return true, disk.TellHostLimits(ctx, node, limits)
}

// Migrate returns when the VM's migration may begin: its turn has come, there is room for it, and its first limit is in
// force. Only then may its overlays be made. Until then nothing is lost by ending ctx: what was set is given back.
//
// Errors: ErrExists when that VM migrates already, ErrNoSpace when there would be no room for it if it were alone,
// ErrTimeout when ctx ends or the Host is closed, those of [NewDisk], [Disk.Learn] and [Buffer.Add]. Where its first limit
// was refused for as long as LagMs: what QEMU said, or ErrState when the state cannot be saved. A QEMU that does not answer
// is waited for until ctx ends. After an error there is no migration.
func (h *Host) Migrate(ctx context.Context, vm HostVM) (*Member, error) {
	if h == nil {
		return nil, nil
	}
	m, err := h.newMember(ctx, vm)
	if err != nil {
		return nil, err
	}
	admitted := false
	if err = h.enqueue(m); err == nil {
		admitted, err = h.awaitTurn(ctx, m)
	}
	if err != nil && !admitted {
		h.refused(m, err)
		m.free()
		return nil, err
	}
	for {
		disk, _ := m.hands()
		if err == nil {
			var info DiskInfo
			if info, err = disk.Info(); err == nil && info.Throttled && !info.Unknown {
				h.config.Log.Info("The migration may begin", "vm", m.name)
				return m, nil
			}
		}
		if err == nil {
			err = h.refusedForLong(m)
		}
		if err == nil {
			err = h.pause(ctx, "host_migrate")
		}
		if err != nil {
			h.mu.Lock()
			m.past.why, m.past.at = whyOf(err), AttemptPhaseAdmission
			h.mu.Unlock()
			h.leave(m) // by itself, however long it takes
			return nil, err
		}
	}
}

// refusedForLong is what refused each try to set its limit, once that has lasted as long as a limit may take to be in force.
func (h *Host) refusedForLong(m *Member) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.refusedSince.IsZero() || time.Since(m.refusedSince) < h.lag {
		return nil
	}
	return m.refusal
}

// enqueue has it wait for its turn.
func (h *Host) enqueue(m *Member) error {
	waiting, err := h.buffer.Waiting(m.migration, m.geometries)
	if err != nil {
		return err
	}
	stats, err := h.buffer.Stats()
	if err != nil {
		return err
	}
	if need := uint64(math.Ceil(waiting.NeedBytes)); need > stats.CapacityBytes {
		text := "there would be no room for it if it were alone"
		for _, g := range m.geometries {
			if g.QueueBytes == 0 {
				text = "there would be no room for it if it were alone, as QueueBytes is not known and counts at its worst: see Geometry.Drain"
			}
		}
		return &Error{Op: "host_migrate", Code: ErrNoSpace, Text: text, Need: need, Have: stats.CapacityBytes}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := h.named(m.name) != nil
	for _, other := range h.queue {
		taken = taken || other.name == m.name
	}
	switch {
	case h.closed:
		return h.isClosed("host_migrate")
	case taken:
		return &Error{Op: "host_migrate", Code: ErrExists, Text: "that VM migrates already"}
	}
	waiting.Arrival = m.id
	m.waiting = waiting
	h.queue = append(h.queue, m)
	return nil
}

// awaitTurn waits until the loop has admitted it. admitted may be true beside an error: limits may be in force then.
func (h *Host) awaitTurn(ctx context.Context, m *Member) (admitted bool, err error) {
	h.tickNow()
	select {
	case err = <-m.admitted:
		return err == nil, err
	case <-ctx.Done():
		err = interrupted("host_migrate", ctx)
	case <-h.ctx.Done():
		err = h.isClosed("host_migrate")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, other := range h.queue {
		if other == m {
			h.queue = append(h.queue[:i:i], h.queue[i+1:]...)
			return false, err
		}
	}
	if refused := <-m.admitted; refused != nil { // its turn came at that moment
		return false, refused
	}
	return true, err
}

func (h *Host) isClosed(op string) error {
	return &Error{Op: op, Code: ErrTimeout, Text: "the Host is closed"}
}

// tickNow has the loop tick without waiting for the interval.
func (h *Host) tickNow() {
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// pause waits for a tick, and a little longer, so that those who wait do not make the loop busy.
func (h *Host) pause(ctx context.Context, op string) error {
	h.mu.Lock()
	ticked := h.ticked
	h.mu.Unlock()
	h.tickNow()
	for _, event := range []<-chan struct{}{ticked, nil} {
		timer := time.NewTimer(h.interval / 10)
		after := timer.C
		if event != nil {
			after = nil
		}
		select {
		case <-event:
		case <-after:
		case <-ctx.Done():
			timer.Stop()
			return interrupted(op, ctx)
		case <-h.ctx.Done():
			timer.Stop()
			return h.isClosed(op)
		}
		timer.Stop()
	}
	return nil
}

// sleep returns false when the Host is closed.
func (h *Host) sleep() bool {
	timer := time.NewTimer(h.interval)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.ctx.Done():
		return false
	}
}

// complain logs what went wrong where nobody waits for an error, once for each text. err nil: it is well again.
func (h *Host) complain(what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	h.mu.Lock()
	news := h.trouble[what] != text
	h.trouble[what] = text
	if text == "" {
		delete(h.trouble, what)
	}
	h.mu.Unlock()
	if news && err != nil {
		h.config.Log.Warn(what, "err", err)
	}
}

// loop ticks until the Host is closed.
func (h *Host) loop() {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-ticker.C:
		case <-h.kick:
		}
		h.admit()
		if h.tick() {
			h.tick() // the others have to make room at once
		}
		h.mu.Lock()
		close(h.ticked)
		h.ticked = make(chan struct{})
		h.mu.Unlock()
		h.keepAttempts()
	}
}

// admit lets in those whose turn it is, and says for what the others wait.
func (h *Host) admit() {
	for _, say := range h.letIn() {
		say()
	}
}

// letIn returns what is to be logged once the lock is free.
func (h *Host) letIn() (log []func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return nil
	}
	waiting := make([]Waiting, len(h.queue))
	for i, m := range h.queue {
		waiting[i] = m.waiting
	}
	turns, err := h.buffer.Turns(h.config.Order, waiting)
	if err != nil {
		return append(log, func() { h.config.Log.Error("Nobody can be admitted", "err", err) })
	}
	wait := h.queue[:0:0]
	for i, m := range h.queue {
		alone := len(h.members) == 0
		verdict, seconds := turns[i].Verdict, turns[i].EarliestS
		// The buffer takes all that are in it for senders. Those that nobody sends any more keep nobody from the link.
		idle := verdict == VerdictLinkBusy && !h.busy(m.migration.Link)
		if verdict == VerdictStart || idle || (alone && verdict == VerdictNoRoom) {
			err := h.buffer.Add(m.migration, m.geometries)
			if err == nil {
				m.inBuffer = true
				h.members[m.id] = m
				m.admitted <- nil
				continue
			}
			if alone || !errors.Is(err, ErrNoSpace) {
				m.admitted <- err
				continue
			}
		}
		if m.verdict != verdict {
			m.verdict = verdict
			name := m.name
			log = append(log, func() {
				h.config.Log.Info("A migration waits", "vm", name, "for", verdict.String(), "seconds", seconds)
			})
		}
		wait = append(wait, m)
	}
	h.queue = wait
	return log
}

// busy tells whether a migration is at work on a link.
func (h *Host) busy(link uint64) bool {
	for _, m := range h.members {
		if m.migration.Link == link && !m.orphan {
			return true
		}
	}
	return false
}
