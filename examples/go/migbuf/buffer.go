// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import (
	"sync"
	"time"
	"unsafe"
)

// Policy says how budgets come about. Both of ours are held by the same clamps; see buffer.h.
type Policy int32

// Policies.
const (
	PolicyPaper   Policy = C.MIGBUF_POLICY_PAPER   // the paper, repaired
	PolicyLiteral Policy = C.MIGBUF_POLICY_LITERAL // the paper as printed; it overflows
	PolicyPlanner Policy = C.MIGBUF_POLICY_PLANNER // growth against the time when each file will be deleted
)

// Phase is where a migration is.
type Phase int32

// Phases.
const (
	PhaseBase  Phase = C.MIGBUF_PHASE_BASE  // the base image is copied; nothing of the overlay is sent yet
	PhaseDrain Phase = C.MIGBUF_PHASE_DRAIN // the overlay is mirrored, then RAM
)

// Action is what to do with one migration.
type Action int32

// Actions.
const (
	Keep      Action = C.MIGBUF_ACTION_KEEP       // nothing: each set of a limit empties QEMU's bucket
	Lower     Action = C.MIGBUF_ACTION_LOWER      // set the new, lower limits, or the first ones
	Raise     Action = C.MIGBUF_ACTION_RAISE      // set the new, higher limits
	Pause     Action = C.MIGBUF_ACTION_PAUSE      // stop the guest
	Resume    Action = C.MIGBUF_ACTION_RESUME     // set the limits, then let it run
	Again     Action = C.MIGBUF_ACTION_AGAIN      // set the same limits once more
	CannotFit Action = C.MIGBUF_ACTION_CANNOT_FIT // as Pause; moreover extend the volume or abort somebody
)

func (a Action) String() string { return C.GoString(C.migbuf_action_text(C.int32_t(a))) }

// Stops tells whether the guest must not run.
func (a Action) Stops() bool { return a == Pause || a == CannotFit }

// Reason is what determined a budget; its String is a sentence for an administrator's log.
type Reason int32

// Reasons.
const (
	ReasonRate    Reason = C.MIGBUF_REASON_RATE
	ReasonShare   Reason = C.MIGBUF_REASON_SHARE
	ReasonRoom    Reason = C.MIGBUF_REASON_ROOM
	ReasonHost    Reason = C.MIGBUF_REASON_HOST
	ReasonFloor   Reason = C.MIGBUF_REASON_FLOOR
	ReasonSpace   Reason = C.MIGBUF_REASON_SPACE
	ReasonReserve Reason = C.MIGBUF_REASON_RESERVE
	ReasonWait    Reason = C.MIGBUF_REASON_WAIT
	ReasonWhole   Reason = C.MIGBUF_REASON_WHOLE
	ReasonPlan    Reason = C.MIGBUF_REASON_PLAN
	ReasonFree    Reason = C.MIGBUF_REASON_FREE
)

func (r Reason) String() string { return C.GoString(C.migbuf_reason_text(C.int32_t(r))) }

// BufferOptions of a [Buffer]. Start from [DefaultBufferOptions].
type BufferOptions struct {
	size              uint64
	Policy            Policy
	IntervalMs        uint32 // how often the host will tick
	LateFactorPercent uint32 // ticks may come this much later and the volume still holds
	LagMs             uint32 // upper bound from measuring to the limit landing in QEMU
	HysteresisPercent uint32 // a raise below this is not sent
	MinPauseMs        uint32
	MaxStallMs        uint32 // a limit that makes the largest request wait longer is not set: the guest is paused
	reserved          uint32
	FloorBytesPerS    uint64 // the agreed minimum, as growth
	EpsilonBytes      uint64
	EpsilonBytesPerS  uint64
	TauMs             uint64
}

// DefaultBufferOptions are the library's.
func DefaultBufferOptions() BufferOptions {
	var o BufferOptions
	C.migbuf_buffer_options_init((*C.struct_migbuf_buffer_options)(unsafe.Pointer(&o)), C.uint64_t(unsafe.Sizeof(o)))
	return o
}

// Migration is a new one. Start from [NewMigration].
type Migration struct {
	size                 uint64
	ID                   uint64 // the host's, any number
	Link                 uint64 // migrations with the same number share one link
	FlowBytesPerS        uint64 // most one flow gets on that link; 0: as much as there is
	DeviceWriteBytesPerS uint64 // most the guest's device can allocate; 0: unknown
	FileBytes            uint64 // what its overlays weigh already
	Weight               uint32
	DrainsAhead          uint32 // drains until its files are deleted
	RateBytesPerS        uint64 // planner: what the guest wrote before, in unit bytes/s; 0: unknown
}

// NewMigration has the library's defaults: weight 100, four drains ahead.
func NewMigration(id uint64) Migration {
	var m Migration
	C.migbuf_migration_init((*C.struct_migbuf_migration)(unsafe.Pointer(&m)), C.uint64_t(unsafe.Sizeof(m)))
	m.ID = id
	return m
}

// Sample is what was measured for one overlay. Counters are since the VM started, and 0 until the overlay is on top.
type Sample struct {
	ID             uint64
	Disk           uint32 // index into the disks given to Add
	reserved       uint32
	FileBytes      uint64 // allocated bytes of the overlay now
	WrittenBytes   uint64 // guest bytes written (query-blockstats wr_bytes)
	Writes         uint64 // guest writes (wr_operations)
	RemainingBytes uint64 // PhaseBase: of the base, still to copy; PhaseDrain: of the overlay, still to send
}

// Decision is what to do with one migration.
type Decision struct {
	ID              uint64
	Action          Action
	Reason          Reason
	GrowthBytesPerS uint64 // what the limits let through; 0 when paused
	Limits          Limits // for all disks of the VM together; zero when paused
}

// BufferView tells how a budget came about. Rates are growth in bytes/s.
type BufferView struct {
	size                                           uint64
	Curve, Share, HardCap, Clamped, Hosted, Budget float64
	InForceBytesPerS, ReserveBytes, ClaimBytes     uint64
	Ratio                                          float64 // measured growth per unit
	Link                                           uint64
	Phase                                          Phase
	paused                                         int32
	Reason                                         Reason
	reserved                                       int32
	ReleaseS                                       float64 // planner: until its files are deleted, s from the last tick
	Wish, Line, Planned                            float64
}

// Paused tells whether the last decision stopped the guest.
func (v *BufferView) Paused() bool { return v.paused != 0 }

// BufferStats is the whole buffer at its last tick.
type BufferStats struct {
	size                                                 uint64
	CapacityBytes, UsedBytes, ReserveBytes, PendingBytes uint64
	GrantableBytes                                       uint64 // what the last tick could give away
	ExcessBytes                                          uint64 // files beyond the volume
	Migrations, Ticks, LateTicks                         uint64
	Level                                                float64 // common level of the last tick, +Inf when nothing was cut
}

// Buffer shares one volume among all migrations. It may be used by several goroutines.
type Buffer struct {
	mu    sync.Mutex
	b     *C.struct_migbuf_buffer
	count int
}

// NewBuffer makes a buffer over a volume of that size (CowVolume of the empty volume, FreeBytes). options nil: defaults.
func NewBuffer(capacityBytes uint64, options *BufferOptions) (*Buffer, error) {
	var o *C.struct_migbuf_buffer_options
	if options != nil {
		given := *options
		o = (*C.struct_migbuf_buffer_options)(unsafe.Pointer(&given))
	}
	var c *C.struct_migbuf_buffer
	if err := failed("buffer_new", C.migbuf_buffer_new(C.uint64_t(capacityBytes), o, nil, &c)); err != nil {
		return nil, err
	}
	return &Buffer{b: c}, nil
}

// LoadBuffer makes a buffer from the text that Save gave, in a process that started anew. now is that process's clock.
// Sample the files and tell what is in force ([Buffer.Found]), then tick.
func LoadBuffer(text string, now time.Duration) (*Buffer, error) {
	t := []byte(text)
	var c *C.struct_migbuf_buffer
	rc := C.migbuf_buffer_load((*C.char)(at(t)), C.size_t(len(t)), milliseconds(now), nil, &c)
	if err := failed("buffer_load", rc); err != nil {
		return nil, err
	}
	b := &Buffer{b: c}
	stats, err := b.Stats()
	b.count = int(stats.Migrations)
	return b, err
}

// Close frees the buffer. Twice is fine.
func (b *Buffer) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	C.migbuf_buffer_free(b.b)
	b.b = nil
}

func milliseconds(d time.Duration) C.uint64_t {
	if d < 0 {
		return 0
	}
	return C.uint64_t(d.Milliseconds())
}

// Add admits a migration with 1 to 64 disks, all of whose overlays lie in the volume. ErrNoSpace: not now; nothing is lost
// by asking again later. Tick at once after it, and apply the first limit before the overlay exists.
func (b *Buffer) Add(m Migration, disks []Geometry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var e C.struct_migbuf_error
	rc := C.migbuf_buffer_add(b.b, (*C.struct_migbuf_migration)(unsafe.Pointer(&m)),
		(*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), &e)
	if rc == 0 {
		b.count++
	}
	return failedWith("buffer_add", rc, &e)
}

// Phase tells where a migration is now, and how many drains are still ahead.
func (b *Buffer) Phase(id uint64, phase Phase, drainsAhead uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("buffer_phase", C.migbuf_buffer_phase(b.b, C.uint64_t(id), C.int32_t(phase), C.uint32_t(drainsAhead)))
}

// Weight sets an administrator's weight, from the next tick on.
func (b *Buffer) Weight(id uint64, weight uint32) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("buffer_weight", C.migbuf_buffer_weight(b.b, C.uint64_t(id), C.uint32_t(weight)))
}

// Sample takes samples, all or none, in one crossing.
func (b *Buffer) Sample(samples []Sample) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("buffer_sample", C.migbuf_buffer_sample(b.b, (*C.struct_migbuf_sample)(at(samples)), C.size_t(len(samples))))
}

// Link tells what a link carries. Pass no sample while it carried nothing.
func (b *Buffer) Link(link, bytesPerS uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("buffer_link", C.migbuf_buffer_link(b.b, C.uint64_t(link), C.uint64_t(bytesPerS)))
}

// Tick decides for all migrations, in order of start, in one crossing. now is the time since any moment that stays the
// same, time.Since(start) for one. The decisions are written over those in out, which may be nil; keep the result for the
// next tick and no other slice is made. The buffer takes it that every decision is carried out: see Refused.
func (b *Buffer) Tick(now time.Duration, out []Decision) ([]Decision, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(out) < b.count {
		out = make([]Decision, b.count)
	}
	out = out[:b.count]
	rc := C.migbuf_buffer_tick(b.b, milliseconds(now), (*C.struct_migbuf_decision)(at(out)), C.size_t(len(out)))
	if rc < 0 {
		return nil, failed("buffer_tick", rc)
	}
	return out[:rc], nil
}

// Refused says that the last decision could not be carried out: what was in force before still is.
func (b *Buffer) Refused(id uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return failed("buffer_refused", C.migbuf_buffer_refused(b.b, C.uint64_t(id)))
}

// Found says what is in force, at a verification or after a restart. Zero limits: none of ours.
func (b *Buffer) Found(id uint64, limits Limits, running bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var runs C.int32_t
	if running {
		runs = 1
	}
	return failed("buffer_found", C.migbuf_buffer_found(b.b, C.uint64_t(id), (*C.struct_migbuf_limits)(unsafe.Pointer(&limits)), runs))
}

// Remove forgets a migration whose overlays are deleted.
func (b *Buffer) Remove(id uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	rc := C.migbuf_buffer_remove(b.b, C.uint64_t(id))
	if rc == 0 {
		b.count--
	}
	return failed("buffer_remove", rc)
}

// Resize says that the volume has another size. ErrInUse with the numbers: files and reserves need more.
func (b *Buffer) Resize(capacityBytes uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var e C.struct_migbuf_error
	return failedWith("buffer_resize", C.migbuf_buffer_resize(b.b, C.uint64_t(capacityBytes), &e), &e)
}

// Save gives all the buffer knows as text, for LoadBuffer. Save after each tick, before its decisions are carried out.
func (b *Buffer) Save() (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return saved("buffer_save", func(text *C.char, capacity C.size_t, length *C.size_t) C.int {
		return C.migbuf_buffer_save(b.b, text, capacity, length)
	})
}

// saved asks how long a text is, then for the text.
func saved(op string, save func(*C.char, C.size_t, *C.size_t) C.int) (string, error) {
	var length C.size_t
	rc := save(nil, 0, &length)
	if Code(rc) != ErrTooBig {
		return "", failed(op, rc)
	}
	text := make([]byte, length+1)
	if err := failed(op, save((*C.char)(at(text)), C.size_t(len(text)), &length)); err != nil {
		return "", err
	}
	return string(text[:length]), nil
}

// View tells how the last tick came to its budget for one migration.
func (b *Buffer) View(id uint64) (BufferView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := BufferView{size: uint64(unsafe.Sizeof(BufferView{}))}
	rc := C.migbuf_buffer_view(b.b, C.uint64_t(id), (*C.struct_migbuf_buffer_view)(unsafe.Pointer(&v)))
	return v, failed("buffer_view", rc)
}

// Stats tells the whole buffer at its last tick.
func (b *Buffer) Stats() (BufferStats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BufferStats{size: uint64(unsafe.Sizeof(BufferStats{}))}
	rc := C.migbuf_buffer_stats(b.b, (*C.struct_migbuf_buffer_stats)(unsafe.Pointer(&s)))
	return s, failed("buffer_stats", rc)
}

// Bins lists the bins of the buffer's ledger, in order of start.
func (b *Buffer) Bins() ([]Bin, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return listBins(C.migbuf_buffer_bins(b.b))
}

// Shards lists all shards, bin by bin, each from the bottom to the top.
func (b *Buffer) Shards() ([]Shard, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return listShards(C.migbuf_buffer_bins(b.b))
}

// BinsView is what the curve looks at for one migration.
func (b *Buffer) BinsView(id uint64) (BinsView, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return viewBins(C.migbuf_buffer_bins(b.b), id)
}
