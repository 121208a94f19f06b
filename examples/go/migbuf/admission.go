// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import "unsafe"

// Waiting is a migration that waits for its turn: made by [Buffer.Waiting], kept by the host.
type Waiting struct {
	ID             uint64
	Link           uint64
	Arrival        uint64  // order of asking, any number that rises: set it
	FlowBytesPerS  float64 // most it gets on the link; +Inf: as much as there is
	DiskBytes      float64 // to be sent
	FileBytes      float64 // of its files in the volume, those that it has already
	WholeBytes     float64 // most that its files can ever grow to
	NeedBytes      float64 // what must be free in the volume for it to start
	ReserveBytes   float64 // of that the reserve for drains
	UnitBytes      float64
	Rate           float64 // unit bytes/s its guest writes; 0: not known
	WriteBytesPerS float64 // the same in plain bytes/s, may be set; 0: as Rate
	Weight         uint32  // its part of the link and of what is given, 1 to 1000000
	reserved       uint32
}

// Outlook is what is expected of one migration; seconds are from now on. Nine of ten are above Least, nine of ten below Most.
type Outlook struct {
	size            uint64
	StartS          float64 // 0: it runs, or starts now
	FinishS         float64 // when its files are deleted; +Inf: not known
	FinishLeastS    float64
	FinishMostS     float64
	PeakBytes       float64 // the most its files will take
	PeakLeastBytes  float64
	PeakMostBytes   float64
	Delivered       float64 // of what its guest wants to write, what the plan lets through
	MirrorDelivered float64 // what write-through would let through
	mirror          int32
	reserved        int32
}

// Mirror tells whether write-through is recommended.
func (o *Outlook) Mirror() bool { return o.mirror != 0 }

// Waiting describes a migration that waits, from the arguments of Add.
func (b *Buffer) Waiting(m Migration, disks []Geometry) (Waiting, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var w Waiting
	rc := C.migbuf_admission_waiting(b.b, (*C.struct_migbuf_migration)(unsafe.Pointer(&m)),
		(*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), (*C.struct_migbuf_waiting)(unsafe.Pointer(&w)))
	return w, failed("admission_waiting", rc)
}

// Turns says who starts now, who waits, for what, how long: one answer per waiting migration, in their order.
func (b *Buffer) Turns(order Order, waiting []Waiting) ([]PlannerTurn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	turns := make([]PlannerTurn, len(waiting))
	rc := C.migbuf_admission_turns(b.b, C.int32_t(order), (*C.struct_migbuf_waiting)(at(waiting)), C.size_t(len(waiting)),
		(*C.struct_migbuf_planner_turn)(at(turns)))
	return turns, failed("admission_turns", rc)
}

// Outlook forecasts a migration that is in the buffer.
func (b *Buffer) Outlook(id uint64) (Outlook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := Outlook{size: uint64(unsafe.Sizeof(Outlook{}))}
	rc := C.migbuf_outlook_running(b.b, C.uint64_t(id), (*C.struct_migbuf_outlook)(unsafe.Pointer(&o)))
	return o, failed("outlook_running", rc)
}

// OutlookWaiting forecasts a migration that waits and starts in so many seconds, PlannerTurn.EarliestS.
func (b *Buffer) OutlookWaiting(w Waiting, startS float64) (Outlook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := Outlook{size: uint64(unsafe.Sizeof(Outlook{}))}
	rc := C.migbuf_outlook_waiting(b.b, (*C.struct_migbuf_waiting)(unsafe.Pointer(&w)), C.double(startS),
		(*C.struct_migbuf_outlook)(unsafe.Pointer(&o)))
	return o, failed("outlook_waiting", rc)
}
