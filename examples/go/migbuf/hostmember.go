// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// naming says of which disks an error is.
func naming(err error, nodes ...string) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Text = fmt.Sprintf("a HostDisk's Node, one of %q: %v", nodes, e.Code)
	return &named
}

// Member is one migration of a [Host]: what its daemon's migration function says on the way. All methods of nil do nothing
// and return nil. An error changes nothing, and each method may be called again after one. Once it has ended, by Finish or
// GiveUp, those two do nothing, and the others return ErrState.
type Member struct {
	host       *Host
	id         uint64
	name       string
	nodes      []string // what devices see without an overlay
	geometries []Geometry
	diskBytes  uint64 // of all disks
	migration  Migration
	waiting    Waiting
	verdict    Verdict       // said last, while it waits
	admitted   chan error    // one: its turn has come, or it was refused
	ready      chan struct{} // closed once its QEMU was asked: at once where the daemon gave the monitor
	guest      chan struct{} // a lock: who may stop the guest and let it run

	past     past // its prior, text and id do not change once it has begun; the rest is of the Host's mu
	ramBytes uint64

	looked time.Time // of guest: when QEMU was last asked what is in force
	taken  int       // of the loop: how often another hand has changed the limits
	fault  error     // of the loop: why a size is not known

	// Of the Host's mu.
	disk          *Disk
	monitor       Monitor    // nil while an earlier process's QEMU was not asked yet
	text          string     // of the disk, as saved last
	kept          bool       // it is in the state's file
	files         []*os.File // ours, as an overlay has no name; nil before it exists
	phase         Phase
	drains        uint32
	snapshotAhead bool // the snapshots' drain is, and the daemon has not counted by itself
	sent          uint64
	remaining     uint64
	remainingTold bool
	inBuffer      bool
	mustRun       bool          // the guest may stand because of us, and the buffer takes it for running
	handsOff      bool          // its migration stops the guest and lets it run
	orphan        bool          // nobody's migration function is at work
	connecting    bool          // an earlier process's QEMU is being asked
	isReady       bool          // ready is closed
	looking       chan struct{} // a lock: one query-blockstats at a time
	mute          bool          // the monitor refuses query-blockstats
	leaving       *departure    // nil: not
	over          bool
	refusal       error     // of the last decision; nil: it was not refused
	refusedSince  time.Time // each since then was
}

// departure is one attempt to end a migration here.
type departure struct {
	done chan struct{}
	err  error // once done is closed
}

func newMember(h *Host, name string, disks int) *Member {
	return &Member{host: h, name: name, files: make([]*os.File, disks), phase: PhaseBase, admitted: make(chan error, 1),
		ready: make(chan struct{}), guest: make(chan struct{}, 1), looking: make(chan struct{}, 1)}
}

// newMember learns the VM's disks and the daemon's own limits.
func (h *Host) newMember(ctx context.Context, vm HostVM) (*Member, error) {
	const op = "host_migrate"
	if ctx.Err() != nil {
		return nil, interrupted(op, ctx)
	}
	if vm.Name == "" || vm.Monitor == nil || len(vm.Disks) == 0 || len(vm.Disks) > 16 {
		return nil, &Error{Op: op, Code: ErrInvalid, Text: "a VM has a Name, a Monitor and 1 to 16 Disks"}
	}
	h.mu.Lock()
	h.last++
	id := h.last
	h.mu.Unlock()
	m := newMember(h, vm.Name, len(vm.Disks))
	m.id, m.monitor = id, vm.Monitor
	m.isReady = true
	close(m.ready)
	m.migration = orDefaults(vm.Migration, NewMigration(id))
	m.migration.ID, m.drains, m.ramBytes = id, m.migration.DrainsAhead, vm.RAMBytes
	m.snapshotAhead = m.drains > 0
	var err error
	if m.disk, err = NewDisk("migbuf-" + strconv.FormatUint(id, 10)); err != nil {
		return nil, err
	}
	m.disk.SaveWith(m.saveText)
	for _, d := range vm.Disks {
		if err == nil {
			err = d.Geometry.Check()
		}
		if err == nil {
			err = naming(m.disk.Watch(d.Node), d.Node)
		}
		m.nodes, m.geometries = append(m.nodes, d.Node), append(m.geometries, d.Geometry)
		m.diskBytes += d.Geometry.VirtualBytes
	}
	if err == nil && vm.SixRates {
		err = m.disk.SixRates()
	}
	if err == nil {
		err = m.disk.Learn(ctx, vm.Monitor)
		if errors.Is(err, ErrNotFound) {
			err = naming(err, m.nodes...)
		}
	}
	for i := range m.nodes {
		var own ThrottleConfig
		if err == nil {
			own, err = m.disk.Host(m.nodes[i])
		}
		m.geometries[i].Flags |= own.HostFlags() // a host's readers do not pay for our limit
		if vm.SixRates {
			m.geometries[i].Flags |= GeometryNoIopsSize
		}
	}
	if err != nil {
		m.disk.Close()
		return nil, err
	}
	m.remember(ctx, vm)
	return m, nil
}

// hands are what it is throttled with.
func (m *Member) hands() (*Disk, Monitor) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	return m.disk, m.monitor
}

// free closes what it holds.
func (m *Member) free() {
	for i, f := range m.files {
		if f != nil {
			f.Close()
			m.files[i] = nil
		}
	}
	if m.disk != nil {
		m.disk.Close()
	}
}

// enter waits until nobody else may stop the guest or let it run.
func (m *Member) enter(ctx context.Context, op string) error {
	select {
	case m.guest <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{Op: op, Code: ErrTimeout, Text: "interrupted", Cause: ctx.Err(), Outcome: OutcomeRefused}
	}
}

func (m *Member) leaveGuest() { <-m.guest }

// begin is how a call begins: its context lasts, its QEMU was asked, and its migration has not ended.
func (m *Member) begin(ctx context.Context, op string) error {
	if ctx.Err() != nil {
		return interrupted(op, ctx)
	}
	select {
	case <-m.ready:
	case <-ctx.Done():
		return interrupted(op, ctx)
	case <-m.host.ctx.Done():
		return m.host.isClosed(op)
	}
	return m.alive(op)
}

func (m *Member) alive(op string) error {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	switch {
	case m.over:
		return &Error{Op: op, Code: ErrState, Text: "its migration has ended"}
	case m.host.closed:
		return m.host.isClosed(op)
	}
	return nil
}

// Path is where to make an overlay: a name of its own in the Host's volume, made from the path where it would be made
// otherwise. nil gives that path itself.
func (m *Member) Path(otherwise string) string {
	if m == nil {
		return otherwise
	}
	return filepath.Join(m.host.config.Volume, "migbuf-"+strconv.FormatUint(m.id, 10)+"-"+filepath.Base(otherwise))
}

// Overlay gives the file of a disk's overlay, by its index in HostVM.Disks, as soon as it is open: before its snapshot,
// and before the file loses its name. The Host keeps a descriptor of its own, and measures by it. Which node is on top,
// and so when the snapshot's drain is over, it asks QEMU. Errors: ErrRange for no such disk, ErrInvalid for a file that is
// closed or in another file system than the Host's volume, ErrUnsupported for what is no file.
func (m *Member) Overlay(ctx context.Context, disk int, file *os.File) error {
	const op = "host_overlay"
	if m == nil {
		return nil
	}
	if err := m.begin(ctx, op); err != nil {
		return err
	}
	if disk < 0 || disk >= len(m.nodes) {
		return &Error{Op: op, Code: ErrRange, Text: fmt.Sprintf("there is no disk %d: of %d the first is 0", disk, len(m.nodes))}
	}
	if file == nil {
		return &Error{Op: op, Code: ErrInvalid, Text: "there is no file"}
	}
	if _, err := CowFileBytes(file); err != nil {
		return err
	}
	if apart, err := inAnother(file, m.host.root); err != nil || apart {
		return &Error{Op: op, Code: ErrInvalid, Text: "the file is not in the Host's volume: make it at Path", Cause: err}
	}
	own, err := duplicate(op, file)
	if err != nil {
		return err
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.over || m.host.closed {
		own.Close()
		return &Error{Op: op, Code: ErrState, Text: "its migration has ended"}
	}
	if m.files[disk] != nil {
		m.files[disk].Close()
	}
	m.files[disk] = own
	return nil
}

// inAnother tells whether a file lies in another file system than a directory. Either name of a file system will do: where
// several are stacked, as overlayfs does it, files and directories may show different devices.
func inAnother(file, directory *os.File) (bool, error) {
	var device [2]uint64
	var system [2]syscall.Statfs_t
	for i, f := range []*os.File{file, directory} {
		var err error
		var s syscall.Stat_t
		if e := control("host_overlay", f, func(fd uintptr) {
			if err = syscall.Fstat(int(fd), &s); err == nil {
				err = syscall.Fstatfs(int(fd), &system[i])
			}
		}); e != nil {
			return false, e
		}
		if err != nil {
			return false, err
		}
		device[i] = uint64(s.Dev)
	}
	return device[0] != device[1] && (system[0].Type != system[1].Type || system[0].Fsid != system[1].Fsid), nil
}

func duplicate(op string, file *os.File) (*os.File, error) {
	var own uintptr
	var errno syscall.Errno
	err := control(op, file, func(fd uintptr) {
		own, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil && errno != 0 {
		err = &Error{Op: op, Code: ErrSystem, Text: "the descriptor cannot be duplicated", Errno: errno}
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(own, file.Name()), nil
}

// Sent is how many bytes this migration has sent over its link: a counter that rises. The sum over all members is what a
// link carries, where HostConfig.Link is nil. While the base is copied, what is still to send is taken to be the disks'
// size less this, unless Remaining says better. Errors: ErrRange beyond 2^62.
func (m *Member) Sent(bytes uint64) error {
	return m.count("host_sent", bytes, func() { m.sent = bytes })
}

// Remaining is how many bytes are still to send in this phase, of all disks: of their bases before Mirror, of their overlays
// after it. Errors: ErrRange beyond 2^62.
func (m *Member) Remaining(bytes uint64) error {
	return m.count("host_remaining", bytes, func() { m.remaining, m.remainingTold = bytes, true })
}

func (m *Member) count(op string, bytes uint64, set func()) error {
	if m == nil {
		return nil
	}
	if bytes > BytesMax {
		return &Error{Op: op, Code: ErrRange, Text: "more than 2^62 bytes", Need: bytes, Have: BytesMax}
	}
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if m.over {
		return &Error{Op: op, Code: ErrState, Text: "its migration has ended"}
	}
	set()
	return nil
}

// Mirror says that the mirror was started: from here on what the guest writes has to be sent. It waits until there is room
// for the drains that are ahead, which there always is where these are fewer than before: the mirror's end, and the stop.
func (m *Member) Mirror(ctx context.Context) error {
	if m == nil {
		return nil
	}
	if err := m.tell(ctx, "host_mirror", PhaseMirror, 2); err != nil {
		return err
	}
	m.reached(AttemptPhaseMirror)
	return nil
}

// Drained says how many drains are still ahead in this phase. Where they are more than before it waits until there is room
// for them: do not drain before it has returned. 1: the guest was stopped for its memory. 0: the mirror has ended too.
func (m *Member) Drained(ctx context.Context, ahead uint32) error {
	if m == nil {
		return nil
	}
	m.host.mu.Lock()
	phase := m.phase
	m.host.mu.Unlock()
	if err := m.tell(ctx, "host_drained", phase, ahead); err != nil {
		return err
	}
	if ahead == 0 {
		m.reached(AttemptPhaseSwitch)
	}
	return nil
}

// reached notes how far it has come, for its history.
func (m *Member) reached(at AttemptPhase) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	p := &m.past
	switch {
	case at == AttemptPhaseMirror && p.mirrored == 0:
		p.mirrored = Clock()
	case at == AttemptPhaseRAM && p.memory == 0:
		p.memory = Clock()
	case at == AttemptPhaseSwitch && p.at != AttemptPhaseRAM:
		return // a drain of an earlier phase
	}
	p.at = at
}

// tell tells the buffer, and waits until there is room for it.
func (m *Member) tell(ctx context.Context, op string, phase Phase, ahead uint32) error {
	if err := m.begin(ctx, op); err != nil {
		return err
	}
	h := m.host
	for {
		h.mu.Lock() // what the buffer was told and what is saved stay one
		wait, err := h.buffer.Phase(m.id, phase, ahead)
		if err == nil && !wait {
			if m.phase != phase {
				m.remaining, m.remainingTold = 0, false
			}
			m.phase, m.drains, m.snapshotAhead = phase, ahead, false
		}
		h.mu.Unlock()
		if err != nil {
			return err
		}
		if !wait {
			break
		}
		if err = h.pause(ctx, op); err == nil {
			err = m.alive(op)
		}
		if err != nil {
			h.mu.Lock()
			_, _ = h.buffer.Phase(m.id, m.phase, m.drains) // no more than before: there is room
			h.mu.Unlock()
			return err
		}
	}
	h.complain("The state cannot be saved", h.save()) // a new process has to keep the same reserve
	return nil
}

// Memory says that from here on the migration itself stops the guest and lets it run, as QEMU does when it sends the last
// of its memory. Limits are still set, and a guest is stopped where the buffer says so, but it is not let run. Merge and
// GiveUp end that.
func (m *Member) Memory(ctx context.Context) error {
	if m == nil {
		return nil
	}
	if err := m.own(ctx, "host_memory"); err != nil {
		return err
	}
	m.reached(AttemptPhaseRAM)
	return nil
}

// own takes stop and cont from the loop. No decision is under way when it returns.
func (m *Member) own(ctx context.Context, op string) error {
	if err := m.begin(ctx, op); err != nil {
		return err
	}
	if err := m.enter(ctx, op); err != nil {
		return err
	}
	defer m.leaveGuest()
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	m.handsOff = true
	return nil
}

// Finish says that it has moved: its QEMU here has ended, and its overlay with it. Nothing is asked of QEMU, and ctx is
// for nothing but the daemon's habit: what has moved is gone, however long a context lasts.
func (m *Member) Finish(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.host.end(m, AttemptOutcomeMoved)
	return nil
}

// Merge is around the daemon's own commit of an overlay into the disk it lies on, once for each overlay. begin is
// block-commit and waits until the job is ready; complete is block-job-complete and waits until the job has ended. Merge
// waits for the room that the commit's drain takes, calls begin, stops the guest, calls complete, and lets the guest run.
// Remove the overlay's node and its descriptor set after it, while the guest runs: QEMU closes the file only then.
//
// A guest that runs when its commit is completed is drained again and again, past every limit. That a guest stands
// because of us is saved: in a process that starts anew the buffer decides when it runs. A guest that another hand has
// stopped stays so.
//
// nil calls begin and complete. Errors: theirs, ErrInUse where the overlay is still on top afterwards, ErrTimeout when
// ctx ends, ErrPeer, ErrUnknown. After an error the guest is left to the buffer's decisions and the limits stay.
func (m *Member) Merge(ctx context.Context, begin, complete func(context.Context) error) error {
	const op = "host_merge"
	if begin == nil || complete == nil {
		return &Error{Op: op, Code: ErrInvalid, Text: "the commit has two parts, begin and complete"}
	}
	if m == nil {
		if err := begin(ctx); err != nil {
			return err
		}
		return complete(ctx)
	}
	if err := m.tell(ctx, op, PhaseMirror, 1); err != nil { // to begin the job; the stop has a reserve of its own
		return err
	}
	before, err := m.look(ctx)
	if err != nil && !errors.Is(err, ErrPeer) {
		return unseen(op, err)
	}
	if err = begin(ctx); err != nil {
		return err
	}
	if err = m.own(ctx, op); err != nil {
		return err
	}
	if err = m.standing(ctx, op, complete); err == nil && before != nil {
		err = m.merged(ctx, op, before)
	}
	if err != nil {
		m.leaveToBuffer()
		return err
	}
	return m.letRun(ctx)
}

// merged is nil when fewer overlays are on top than before.
func (m *Member) merged(ctx context.Context, op string, before *look) error {
	after, err := m.look(ctx)
	switch {
	case err != nil:
		return unseen(op, err)
	case before.stacked() > 0 && after.stacked() >= before.stacked():
		return &Error{Op: op, Code: ErrInUse, Text: "the overlay is still on top"}
	}
	return nil
}

func unseen(op string, err error) error {
	return &Error{Op: op, Code: ErrUnknown, Text: "QEMU does not say what is on top", Cause: err, Outcome: OutcomeUnknown}
}

// standing has the guest stand while f is at work.
func (m *Member) standing(ctx context.Context, op string, f func(context.Context) error) error {
	for {
		disk, monitor := m.hands()
		err := disk.Apply(ctx, monitor, Decision{ID: m.id, Action: ActionPause})
		if err == nil {
			return f(ctx)
		}
		if !errors.Is(err, ErrUnknown) {
			return err
		}
		if e := m.host.pause(ctx, op); e != nil { // nobody knows whether it stands: that is asked again
			return err
		}
	}
}

// letRun lets a guest run that stands because of us: what it writes has no overlay to grow any more.
func (m *Member) letRun(ctx context.Context) error {
	disk, monitor := m.hands()
	info, err := disk.Info()
	if err == nil && info.Stopped && info.Limits != (Limits{}) {
		err = disk.Apply(ctx, monitor, Decision{ID: m.id, Action: ActionResume, Limits: info.Limits})
	}
	m.leaveToBuffer()
	return err
}

// leaveToBuffer leaves the guest to the buffer's decisions again, as it is. Where nobody knows whether it stands, the buffer
// counts on what it may write, and the next ticks let it run or stop it.
func (m *Member) leaveToBuffer() {
	if m.enter(m.host.ctx, "host_leave") != nil { // no decision is under way
		return
	}
	defer m.leaveGuest()
	disk, _ := m.hands()
	info, err := disk.Info()
	if err != nil {
		return // it has ended
	}
	m.host.mu.Lock()
	m.handsOff, m.mustRun = false, info.Unknown && info.Stopped
	m.host.mu.Unlock()
	_ = m.host.buffer.Resync(m.id, info.Limits, info.Unknown || !info.Stopped)
	m.host.tickNow()
}

// GiveUp says that it has not moved, and that its overlays are gone: merged and removed, or never made. It gives the
// daemon's own limits back, lets a guest run that stands because of us, and frees its room.
//
// It returns when that is done, or when ctx ends. It is done all the same, also where ctx had ended before: who defers it
// right after Migrate need not care. While QEMU does not answer it is tried again, as long as there is a QEMU
// (HostConfig.Monitor says); Finish ends that too. After a restart of the daemon it goes on.
//
// Where an overlay is still on top of a disk it changes nothing, for until it is merged it grows: ErrInUse. The limits
// stay, and are given back once it is merged, with or without another call. Other errors: ErrTimeout, ErrPeer.
func (m *Member) GiveUp(ctx context.Context) error {
	if m == nil {
		return nil
	}
	m.host.mu.Lock()
	m.orphan = true
	if m.past.why == 0 && ctx.Err() != nil {
		m.past.why = whyOf(ctx.Err())
	}
	m.host.mu.Unlock()
	d := m.host.leave(m)
	select {
	case <-d.done:
		return d.err
	default:
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return interrupted("host_give_up", ctx)
	}
}

// leave ends a migration here, by itself.
func (h *Host) leave(m *Member) *departure {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.leaving != nil {
		return m.leaving
	}
	d := &departure{done: make(chan struct{})}
	if m.over || h.closed {
		if !m.over {
			d.err = h.isClosed("host_give_up")
		}
		close(d.done)
		return d
	}
	m.leaving, m.orphan = d, true
	h.wait.Add(1)
	go func() {
		defer h.wait.Done()
		d.err = h.depart(m)
		h.mu.Lock()
		m.leaving = nil
		h.mu.Unlock()
		close(d.done)
	}()
	return d
}

// depart tries until it is known what became of it.
func (h *Host) depart(m *Member) error {
	select {
	case <-m.ready:
	case <-h.ctx.Done():
		return h.isClosed("host_give_up")
	}
	for {
		err := m.goBack()
		if m.alive("host_give_up") != nil && h.ctx.Err() == nil {
			return nil // it has ended
		}
		if errors.Is(err, ErrInUse) {
			m.leaveToBuffer()
		}
		h.complain("Limits are not given back yet: "+m.name, err)
		if err == nil || !(errors.Is(err, ErrUnknown) || errors.Is(err, ErrTimeout)) {
			return err
		}
		if !h.sleep() {
			return h.isClosed("host_give_up")
		}
		if h.config.Monitor != nil && errors.Is(m.connect(), ErrNotFound) {
			h.end(m, 0) // nobody knows what became of it
			return nil
		}
	}
}

// goBack is one try.
func (m *Member) goBack() error {
	h := m.host
	ctx, cancel := context.WithTimeout(h.ctx, patienceOfOne)
	defer cancel()
	h.mu.Lock()
	counts := m.inBuffer
	h.mu.Unlock()
	if counts {
		l, err := m.look(ctx)
		switch {
		case err != nil && !errors.Is(err, ErrPeer):
			return unseen("host_give_up", err)
		case err == nil && l.stacked() > 0:
			return &Error{Op: "host_give_up", Code: ErrInUse, Text: "an overlay is on top of a disk: merge it first", Outcome: OutcomeRefused}
		}
	}
	if err := m.enter(ctx, "host_give_up"); err != nil { // no decision is under way, and nobody tells of other limits
		return err
	}
	defer m.leaveGuest()
	if counts {
		h.mu.Lock()
		for i, f := range m.files {
			if f != nil {
				f.Close()
				m.files[i] = nil
			}
		}
		if m.inBuffer {
			m.inBuffer = false
			_ = h.buffer.Remove(m.id)
		}
		h.mu.Unlock()
		h.tickNow() // its room is others'
	}
	disk, monitor := m.hands()
	if err := disk.Restore(ctx, monitor); err != nil {
		return err
	}
	h.mu.Lock()
	outcome := AttemptOutcomeFailed
	if m.past.at == AttemptPhaseAdmission {
		outcome = AttemptOutcomeRefused
	}
	h.mu.Unlock()
	h.end(m, outcome)
	return nil
}

// end forgets a member, and has its history know the outcome; 0: there is none that anybody knows.
func (h *Host) end(m *Member, outcome AttemptOutcome) {
	h.mu.Lock()
	if m.over || h.closed {
		h.mu.Unlock()
		return
	}
	m.over = true
	h.note(m, outcome)
	delete(h.members, m.id)
	if m.inBuffer {
		m.inBuffer = false
		_ = h.buffer.Remove(m.id)
	}
	if l := h.links[m.migration.Link]; l != nil {
		l.sent += m.sent
	}
	m.free()
	for what := range h.trouble {
		if strings.HasSuffix(what, ": "+m.name) {
			delete(h.trouble, what)
		}
	}
	h.mu.Unlock()
	h.complain("The state cannot be saved", h.save())
	h.config.Log.Info("A migration has ended", "vm", m.name)
	h.keepAttempts()
	h.tickNow()
}
