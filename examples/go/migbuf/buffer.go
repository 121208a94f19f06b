// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"sync"
	"time"
	"unsafe"
)

// Policy says how budgets come about. PolicyPlanner and PolicyPaper end in the same clamps: that files never outgrow Ω
// does not depend on a forecast.
type Policy int32

// Policies.
const (
	// PolicyPaper asks how full a migration's part of Ω is now: the rate of a paper, made exact. It needs nothing but file
	// sizes.
	PolicyPaper Policy = C.MIGBUF_POLICY_PAPER
	// PolicyLiteral is the paper's rate as printed, as byte limits, without any clamp. It overflows: for comparisons.
	PolicyLiteral Policy = C.MIGBUF_POLICY_LITERAL
	// PolicyPlanner plans growth against the time when each file will be deleted. The default: give it what guests have
	// written, how much is still to send and what the link carries.
	PolicyPlanner Policy = C.MIGBUF_POLICY_PLANNER
)

// String is "paper", "literal" or "planner".
func (p Policy) String() string {
	return text([]string{"unknown", "paper", "literal", "planner"}, int(p))
}

// Phase is where a migration is.
type Phase int32

// Phases.
const (
	PhaseBase   Phase = C.MIGBUF_PHASE_BASE   // the base image is copied; nothing of the overlay is sent yet
	PhaseMirror Phase = C.MIGBUF_PHASE_MIRROR // the overlay is mirrored, then RAM: what the guest writes has to be sent
)

// String is "base" or "mirror".
func (p Phase) String() string { return text([]string{"unknown", "base", "mirror"}, int(p)) }

// Action is what to do with one migration.
type Action int32

// Actions.
const (
	ActionKeep      Action = C.MIGBUF_ACTION_KEEP       // nothing: each set of a limit empties QEMU's bucket
	ActionLower     Action = C.MIGBUF_ACTION_LOWER      // set the new, lower limits, or the first ones
	ActionRaise     Action = C.MIGBUF_ACTION_RAISE      // set the new, higher limits, so that a waiting write feels them
	ActionPause     Action = C.MIGBUF_ACTION_PAUSE      // stop the guest: its budget is below one unit a second
	ActionResume    Action = C.MIGBUF_ACTION_RESUME     // set the limits, then let it run
	ActionCannotFit Action = C.MIGBUF_ACTION_CANNOT_FIT // as pause; and Ω cannot hold the reserves: extend it or abort somebody
	ActionRearm     Action = C.MIGBUF_ACTION_REARM      // set the same limits once more, for a write that waits too long
	ActionWait      Action = C.MIGBUF_ACTION_WAIT       // not yet: leave the guest alone and do not create its overlay
)

// String is "keep", "lower", "cannot fit" and so on.
func (a Action) String() string { return C.GoString(C.migbuf_action_text(C.int32_t(a))) }

// Stops tells whether the guest must not run.
func (a Action) Stops() bool { return a == ActionPause || a == ActionCannotFit }

// Acts tells whether there is something to carry out: with all actions but ActionKeep and ActionWait.
func (a Action) Acts() bool { return a != ActionKeep && a != ActionWait }

// Reason is what determined a budget. Its String is a sentence for an administrator's log.
type Reason int32

// Reasons.
const (
	ReasonRate      Reason = C.MIGBUF_REASON_RATE      // the policy's curve
	ReasonShare     Reason = C.MIGBUF_REASON_SHARE     // its share of the link
	ReasonRoom      Reason = C.MIGBUF_REASON_ROOM      // what the bins it lies in could hold until the next decision
	ReasonLender    Reason = C.MIGBUF_REASON_LENDER    // a migration that lends it room has no more
	ReasonFloor     Reason = C.MIGBUF_REASON_FLOOR     // the agreed minimum
	ReasonSpace     Reason = C.MIGBUF_REASON_SPACE     // what is free in Ω: everybody was cut to one level
	ReasonReserve   Reason = C.MIGBUF_REASON_RESERVE   // Ω minus files is less than the reserves for drains
	ReasonWait      Reason = C.MIGBUF_REASON_WAIT      // paused a moment ago: it stays so, because stop costs a drain
	ReasonWhole     Reason = C.MIGBUF_REASON_WHOLE     // what is missing of its disks fits: as good as unlimited
	ReasonPlan      Reason = C.MIGBUF_REASON_PLAN      // planner: what it may grow by until its files are deleted
	ReasonFree      Reason = C.MIGBUF_REASON_FREE      // planner: all is well without a throttle for this one
	ReasonFirst     Reason = C.MIGBUF_REASON_FIRST     // planner: little is known of it yet; it begins with a part of what is free
	ReasonAdmission Reason = C.MIGBUF_REASON_ADMISSION // its room is not free yet, or somebody would have to stand for its sake until another one is away
	ReasonUnseen    Reason = C.MIGBUF_REASON_UNSEEN    // files were not sampled, and may have grown by all that is free
	ReasonTurn      Reason = C.MIGBUF_REASON_TURN      // not even the smallest limits of all fit until the files are gone: each writes for a tick, in turn
)

// String is a sentence for an administrator's log.
func (r Reason) String() string { return C.GoString(C.migbuf_reason_text(C.int32_t(r))) }

// BufferOptions of a [Buffer]. Start from [DefaultBufferOptions] to set a field to 0: in a literal, 0 is the default.
type BufferOptions struct {
	size              uint64
	Policy            Policy // PolicyPlanner
	IntervalMs        uint32 // how often the host will tick, ms; 1000; 10 to 60000
	LateFactorPercent uint32 // ticks may come this much later and Ω still holds; 200; 100 to 1000
	LagMs             uint32 // most from a tick to its lower limits landing in QEMU, or to the tick after one that did not, ms; 100; 0 to 60000
	HysteresisPercent uint32 // a raise below this is not sent, a lower goes half as much further; 10; 0 to 50
	MinPauseMs        uint32 // shortest pause of a guest, ms; 2000
	MaxStallMs        uint32 // a limit that makes the largest request wait longer is not set: the guest is paused, ms; 30000
	reserved          uint32
	FloorBytesPerS    uint64 // the agreed minimum for each guest, as growth; 160000: 4 KiB writes at 10 kB/s in 64 KiB clusters
	EpsilonBytes      uint64 // PolicyPaper: softens the pole of the curve at a full bin; 10000; 1 to 2^62
	EpsilonBytesPerS  uint64 // PolicyPaper: the rate of a full bin; 10000; 0 to 2^62
	TauMs             uint64 // PolicyPaper: time in which a bin's bytes become a rate, ms; 1000; 1 to 2^62
}

// DefaultBufferOptions are the library's.
func DefaultBufferOptions() BufferOptions {
	var o BufferOptions
	C.migbuf_buffer_options_init((*C.struct_migbuf_buffer_options)(unsafe.Pointer(&o)), C.uint64_t(unsafe.Sizeof(o)))
	return o
}

// Migration is a new one. Start from [NewMigration] to set DrainsAhead to 0: in a literal, 0 is the default.
type Migration struct {
	size                 uint64
	ID                   uint64 // the host's, any number
	Link                 uint64 // which link it uses: migrations with the same number share one
	FlowBytesPerS        uint64 // most one flow gets on that link; 0: as much as there is
	DeviceWriteBytesPerS uint64 // most the guest's device can write; 0: unknown, a guest without a limit counts with 4e9 then
	FileBytes            uint64 // what its overlays weigh already, up to 2^56; 0: they do not exist yet
	Weight               uint32 // an administrator's, 1 to 1000000; 100. Twice the weight: twice the share of Ω and link
	DrainsAhead          uint32 // drains until its files are deleted; 4: snapshot, mirror, cancel, stop
	RateBytesPerS        uint64 // planner: what the guest wrote before, in unit bytes/s; 0: unknown
}

// NewMigration has the library's defaults: weight 100, four drains ahead.
func NewMigration(id uint64) Migration {
	var m Migration
	C.migbuf_migration_init((*C.struct_migbuf_migration)(unsafe.Pointer(&m)), C.uint64_t(unsafe.Sizeof(m)))
	m.ID = id
	return m
}

// Sample is what was measured for one overlay. Counters are since the VM started, and 0 where not known. Leave them 0
// until the overlay is on top: what a guest writes to its base would be learnt as growing nothing.
type Sample struct {
	ID             uint64 // the migration's
	Disk           uint32 // index into the disks given to Add
	reserved       uint32
	FileBytes      uint64 // allocated bytes of the overlay now, up to 2^56; may be less than before
	WrittenBytes   uint64 // guest bytes written (query-blockstats wr_bytes)
	Writes         uint64 // guest writes (query-blockstats wr_operations)
	RemainingBytes uint64 // PhaseBase: of the base, still to copy; PhaseMirror: of the overlay, still to send; 0: not known; None: none
}

// Decision is what to do with one migration.
type Decision struct {
	ID              uint64 // the migration's
	Action          Action // what to do
	Reason          Reason // what determined the budget
	GrowthBytesPerS uint64 // what the limits let through, in unit bytes/s; 0 when paused
	Limits          Limits // for all disks of the VM together; zero when paused
}

// BufferView tells how a budget came about. Rates are growth in bytes/s; +Inf where there is no bound.
type BufferView struct {
	size             uint64
	Curve            float64 // the policy's curve
	Share            float64 // its share of the link; +Inf before the link was told
	HardCap          float64 // from the room of its bins
	Clamped          float64 // the least of these three
	BelowLenders     float64 // after those that host its shards
	Budget           float64 // after floor and common level, before rounding to units
	InForceBytesPerS uint64  // what the last decision set; Unlimited before the first
	ReserveBytes     uint64  // kept free for its drains
	ClaimBytes       uint64  // what its files may grow by until the next decision: a write threshold
	Ratio            float64 // measured growth of its files per unit
	Link             uint64  // as given to Add
	Phase            Phase   // as told last
	paused           int32
	Reason           Reason // of the last decision
	reserved         int32
	FinishS          float64 // planner: until its files are deleted, s from the last tick; else +Inf
	Demand           float64 // planner: the growth it would like; else 0
	Cap              float64 // planner: most that it and all that leave later may grow; else 0
	Planned          float64 // planner: the growth it gets; else 0
}

// Paused tells whether the last decision stopped the guest.
func (v *BufferView) Paused() bool { return v.paused != 0 }

// BufferStats is the whole buffer at its last tick.
type BufferStats struct {
	size           uint64
	CapacityBytes  uint64  // Ω
	UsedBytes      uint64  // sum of all files
	ReserveBytes   uint64  // kept free for drains
	PendingBytes   uint64  // may still come under the limits before this tick's
	GrantableBytes uint64  // Ω minus all three: what the last tick could give away
	ExcessBytes    uint64  // files beyond Ω; 0 unless something outside broke the promise
	Migrations     uint64  // how many there are
	Ticks          uint64  // since it was made or loaded
	LateTicks      uint64  // ticks that came too late: Ω was on its own meanwhile
	Level          float64 // common level of the last tick; +Inf when nothing was cut
	UnseenBytes    uint64  // most that files can have grown between their measurement and the last tick
	ReachBytes     uint64  // most that all files can weigh before the next decisions have landed, drains included
}

// Buffer shares one volume among all migrations. Several goroutines may use it.
//
// It promises that the files never outgrow Ω, as long as QEMU enforces what was set, drains pour no more than
// Geometry.QueueBytes each, a decision lands within LagMs of its tick or the host tells [Buffer.Outcome] within that time
// that it did not and ticks again, and ticks come at most LateFactorPercent of an interval apart.
type Buffer struct {
	mu    sync.Mutex
	b     *C.struct_migbuf_buffer
	count int
}

// NewBuffer makes a buffer over a volume of that size: [CowVolume] of the empty volume, FreeBytes. options nil: defaults.
// Errors: ErrRange, ErrInvalid.
func NewBuffer(capacityBytes uint64, options *BufferOptions) (*Buffer, error) {
	var o *C.struct_migbuf_buffer_options
	if options != nil {
		given := orDefaults(*options, DefaultBufferOptions())
		o = (*C.struct_migbuf_buffer_options)(unsafe.Pointer(&given))
	}
	var c *C.struct_migbuf_buffer
	if err := failed("buffer_new", C.migbuf_buffer_new(C.uint64_t(capacityBytes), o, nil, &c)); err != nil {
		return nil, err
	}
	return &Buffer{b: c}, nil
}

// LoadBuffer makes a buffer from the text that Save gave, in a process that started anew. now is that process's clock,
// [Clock] for one: it goes on between processes, so the time without a process counts as time. Sample the files and tell
// what is in force ([Buffer.Resync]), then tick: the decisions are those that the old process would have taken.
// Errors: ErrProtocol (cut, edited, another version), ErrRange.
func LoadBuffer(text string, now time.Duration) (*Buffer, error) {
	ms, ok := milliseconds(now)
	if !ok {
		return nil, badTime("buffer_load")
	}
	t := []byte(text)
	var c *C.struct_migbuf_buffer
	if err := failed("buffer_load", C.migbuf_buffer_load((*C.char)(at(t)), C.size_t(len(t)), ms, nil, &c)); err != nil {
		return nil, err
	}
	b := &Buffer{b: c}
	stats, err := b.Stats()
	b.count = int(stats.Migrations)
	return b, err
}

// Close frees the buffer. It returns nil, also the second time.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	C.migbuf_buffer_free(b.b)
	b.b, b.count = nil, 0
	return nil
}

func (b *Buffer) failed(op string, rc C.int) error {
	return ofHandle(b.b != nil, "NewBuffer", failed(op, rc))
}

func (b *Buffer) failedWith(op string, rc C.int, e *C.struct_migbuf_error) error {
	return ofHandle(b.b != nil, "NewBuffer", failedWith(op, rc, e))
}

// Add admits a migration with 1 to 64 disks, all of whose overlays lie in the volume.
//
// ErrNoSpace means not now: its files, its reserve for drains and its smallest limit do not fit beside those of the
// others. Need and Have tell the bytes, Caution the part of Need that is there only because QueueBytes is not known.
// Nothing is lost by asking again later.
//
// Where the overlays do not exist yet, tick at once and create them when a decision has set the first limits, not before.
// Until the others have been cut so far that its room is free, the decision is ActionWait.
// Other errors: ErrExists, ErrRange, ErrInvalid.
func (b *Buffer) Add(m Migration, disks []Geometry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range disks {
		if err := disks[i].Check(); err != nil {
			return err
		}
	}
	m = orDefaults(m, NewMigration(m.ID))
	var e C.struct_migbuf_error
	rc := C.migbuf_buffer_add(b.b, (*C.struct_migbuf_migration)(unsafe.Pointer(&m)),
		(*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), &e)
	if rc == 0 {
		b.count++
	}
	return b.failedWith("buffer_add", rc, &e)
}

// Phase tells where a migration is now, and how many drains are still ahead, from the next tick on. wait is true while
// they have no room, also where fewer are ahead than before: do not drain, tick, and ask again by the same call. Errors: ErrNotFound, ErrInvalid.
func (b *Buffer) Phase(id uint64, phase Phase, drainsAhead uint32) (wait bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rc := C.migbuf_buffer_phase(b.b, C.uint64_t(id), C.int32_t(phase), C.uint32_t(drainsAhead))
	return rc == 1, b.failed("buffer_phase", rc)
}

// Weight sets an administrator's weight, 1 to 1000000, from the next tick on. Errors: ErrNotFound, ErrRange.
func (b *Buffer) Weight(id uint64, weight uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("buffer_weight", C.migbuf_buffer_weight(b.b, C.uint64_t(id), C.uint32_t(weight)))
}

// Sample takes samples, all or none, in one crossing. now is when they were measured, on the clock of Tick: from then on a
// file counts as grown by all that its limits allowed, and so does a disk without a new sample. Measure shortly before
// the tick. Errors: ErrNotFound (id or disk), ErrRange, ErrInvalid.
func (b *Buffer) Sample(now time.Duration, samples []Sample) error {
	ms, ok := milliseconds(now)
	if !ok {
		return badTime("buffer_sample")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("buffer_sample", C.migbuf_buffer_sample(b.b, ms, (*C.struct_migbuf_sample)(at(samples)), C.size_t(len(samples))))
}

// Link tells what a link carries, bytes/s, at least 1. It is held until the next time. Pass nothing while the link carried
// nothing: that is not a slow link. Errors: ErrNotFound when no migration uses it, ErrRange.
func (b *Buffer) Link(link, bytesPerS uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed("buffer_link", C.migbuf_buffer_link(b.b, C.uint64_t(link), C.uint64_t(bytesPerS)))
}

// Tick decides for all migrations, in order of start, in one crossing. now may equal the last one, never be less
// (ErrClock). The decisions are written over those in out, which may be nil: keep the result for the next tick, and no
// other slice is made.
//
// The buffer takes it that every decision has landed LagMs later, unless [Buffer.Outcome] says what became of it.
func (b *Buffer) Tick(now time.Duration, out []Decision) ([]Decision, error) {
	ms, ok := milliseconds(now)
	if !ok {
		return nil, badTime("buffer_tick")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(out) < b.count {
		out = make([]Decision, b.count)
	}
	out = out[:b.count]
	rc := C.migbuf_buffer_tick(b.b, ms, (*C.struct_migbuf_decision)(at(out)), C.size_t(len(out)))
	if rc < 0 {
		return nil, b.failed("buffer_tick", rc)
	}
	return out[:rc], nil
}

// Outcome says what became of the last decision for a migration that was not ActionKeep or ActionWait: [OutcomeOf] the
// error of [Disk.Apply].
//
//	OutcomeDone     it is in force
//	OutcomeRefused  nothing of it is in force, and what was in force before still is
//	OutcomeUnknown  every other case
//	0               there is more to send: nothing changes
//
// After OutcomeUnknown everything that may be in force counts, and each tick asks for what is wanted once more, until the
// outcome is done or [Buffer.Resync] says what is in force.
//
// tickNow is true when more may be in force than was decided, so that the others have to make room: tick at once, within
// LagMs of the tick that decided it. Errors: ErrNotFound, ErrInvalid, ErrState for OutcomeRefused when no decision waits
// for its outcome.
func (b *Buffer) Outcome(id uint64, outcome Outcome) (tickNow bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rc := C.migbuf_buffer_outcome(b.b, C.uint64_t(id), C.int32_t(outcome))
	return rc == 1, b.failed("buffer_outcome", rc)
}

// Resync says what is in force for a migration, at a verification or after a restart: the limits of [Disk.Info], and
// whether the guest runs. The next tick starts from there. Zero limits: none of ours, so the guest may write what its
// device can. Errors: ErrNotFound, ErrRange.
func (b *Buffer) Resync(id uint64, limits Limits, running bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var runs C.int32_t
	if running {
		runs = 1
	}
	return b.failed("buffer_resync", C.migbuf_buffer_resync(b.b, C.uint64_t(id), (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)), runs))
}

// Remove forgets a migration whose overlays are deleted. Errors: ErrNotFound.
func (b *Buffer) Remove(id uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	rc := C.migbuf_buffer_remove(b.b, C.uint64_t(id))
	if rc == 0 {
		b.count--
	}
	return b.failed("buffer_remove", rc)
}

// Resize says that Ω has another size from the next tick on. wait is true when limits in force may still fill more than
// that: tick, let the decisions land, and make the volume itself smaller when BufferStats.ReachBytes is no more than its
// new size. ErrInUse with the numbers: files and reserves need more. Other errors: ErrRange.
func (b *Buffer) Resize(capacityBytes uint64) (wait bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var e C.struct_migbuf_error
	rc := C.migbuf_buffer_resize(b.b, C.uint64_t(capacityBytes), &e)
	return rc == 1, b.failedWith("buffer_resize", rc, &e)
}

// Save gives all the buffer knows as text, for LoadBuffer. Save after each tick, before its decisions are carried out.
// Printable ASCII with version and checksum, about 700 bytes a migration.
func (b *Buffer) Save() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := saved("buffer_save", func(text *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_buffer_save(b.b, text, capacity, length)
	})
	return text, ofHandle(b.b != nil, "NewBuffer", err)
}

// View tells how the last tick came to its budget for one migration. Errors: ErrNotFound.
func (b *Buffer) View(id uint64) (BufferView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := BufferView{size: uint64(unsafe.Sizeof(BufferView{}))}
	rc := C.migbuf_buffer_view(b.b, C.uint64_t(id), (*C.struct_migbuf_buffer_view)(unsafe.Pointer(&v)))
	return v, b.failed("buffer_view", rc)
}

// Stats tells the whole buffer at its last tick.
func (b *Buffer) Stats() (BufferStats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BufferStats{size: uint64(unsafe.Sizeof(BufferStats{}))}
	rc := C.migbuf_buffer_stats(b.b, (*C.struct_migbuf_buffer_stats)(unsafe.Pointer(&s)))
	return s, b.failed("buffer_stats", rc)
}

// Bins lists the bins of the buffer's ledger, in order of start: for a picture.
func (b *Buffer) Bins() ([]Bin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bins, err := listBins(C.migbuf_buffer_bins(b.b))
	return bins, ofHandle(b.b != nil, "NewBuffer", err)
}

// Shards lists all shards, bin by bin, each from the bottom to the top: for a picture.
func (b *Buffer) Shards() ([]Shard, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	shards, err := listShards(C.migbuf_buffer_bins(b.b))
	return shards, ofHandle(b.b != nil, "NewBuffer", err)
}

// BinsView is what the curve of PolicyPaper looks at for one migration. Errors: ErrNotFound.
func (b *Buffer) BinsView(id uint64) (BinsView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	view, err := viewBins(C.migbuf_buffer_bins(b.b), id)
	return view, ofHandle(b.b != nil, "NewBuffer", err)
}
