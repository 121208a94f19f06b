// SPDX-License-Identifier: MIT

package migbuf

// #include <migbuf/migbuf.h>
import "C"

import "unsafe"

// Waiting is a migration that waits for its turn: made by [Buffer.Waiting], kept by the host. A host that knows better may
// lower DiskBytes and WholeBytes (sparse disks).
type Waiting struct {
	ID             uint64  // the migration's
	Link           uint64  // its link
	Arrival        uint64  // order of asking, any number that rises: the host sets it; 0 before
	FlowBytesPerS  float64 // most it gets on the link; +Inf: as much as there is
	DiskBytes      float64 // to be sent: all its disks
	FileBytes      float64 // of its files in the volume, those that it has already
	WholeBytes     float64 // most that its files can ever grow to
	NeedBytes      float64 // what must be free in the volume for it to start: file, reserve for drains, smallest limit
	ReserveBytes   float64 // of that the reserve for drains
	UnitBytes      float64 // its largest unit
	Rate           float64 // what its guest writes, unit bytes/s; 0: not known
	WriteBytesPerS float64 // the same in plain bytes/s, at most Rate: the host may set it; 0: as Rate
	Weight         uint32  // an administrator's, 1 to 1000000: its part of the link and of what is given
	reserved       uint32
}

// Outlook is what is expected of one migration; seconds are from now on. Nine of ten lie above what is called Least, and
// nine of ten below Most, if nobody else starts meanwhile; over 1 Gbit/s three of four.
type Outlook struct {
	size            uint64
	StartS          float64 // when it starts; 0: it runs, or starts now
	FinishS         float64 // when its files are deleted; +Inf: not known, as no link speed was told
	FinishLeastS    float64 // see FinishS
	FinishMostS     float64 // see FinishS
	PeakBytes       float64 // the most its files will take of the volume
	PeakLeastBytes  float64 // see PeakBytes
	PeakMostBytes   float64 // see PeakBytes
	Delivered       float64 // of what its guest wants to write, what the plan lets through: 0 to 1
	MirrorDelivered float64 // what a mirror would let through: 0 to 1
	mirror          int32
	reserved        int32
}

// Mirror tells whether a mirror from the start is recommended, without an overlay.
func (o *Outlook) Mirror() bool { return o.mirror != 0 }

// Waiting describes a migration that waits, from the arguments of Add. Errors: those of Add but ErrExists and ErrNoSpace.
func (b *Buffer) Waiting(m Migration, disks []Geometry) (Waiting, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var w Waiting
	for i := range disks {
		if err := disks[i].Check(); err != nil {
			return w, err
		}
	}
	m = orDefaults(m, NewMigration(m.ID))
	rc := C.migbuf_admission_waiting(b.b, (*C.struct_migbuf_migration)(unsafe.Pointer(&m)),
		(*C.struct_migbuf_geometry)(at(disks)), C.size_t(len(disks)), (*C.struct_migbuf_waiting)(unsafe.Pointer(&w)))
	return w, b.failed("admission_waiting", rc)
}

// Turns says who starts now, who waits, for what, how long: one answer per waiting migration, in their order. Who is told
// to start is given to Add. Errors: ErrInvalid, ErrRange.
func (b *Buffer) Turns(order Order, waiting []Waiting) ([]AdmissionTurn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	turns := make([]AdmissionTurn, len(waiting))
	rc := C.migbuf_admission_turns(b.b, C.int32_t(order), (*C.struct_migbuf_waiting)(at(waiting)), C.size_t(len(waiting)),
		(*C.struct_migbuf_admission_turn)(at(turns)))
	return turns, b.failed("admission_turns", rc)
}

// Outlook forecasts a migration that is in the buffer. Errors: ErrNotFound.
func (b *Buffer) Outlook(id uint64) (Outlook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := Outlook{size: uint64(unsafe.Sizeof(Outlook{}))}
	rc := C.migbuf_outlook_running(b.b, C.uint64_t(id), (*C.struct_migbuf_outlook)(unsafe.Pointer(&o)))
	return o, b.failed("outlook_running", rc)
}

// OutlookWaiting forecasts a migration that waits and starts in so many seconds, AdmissionTurn.EarliestS. Errors: ErrRange,
// ErrInvalid.
func (b *Buffer) OutlookWaiting(w Waiting, startS float64) (Outlook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := Outlook{size: uint64(unsafe.Sizeof(Outlook{}))}
	rc := C.migbuf_outlook_waiting(b.b, (*C.struct_migbuf_waiting)(unsafe.Pointer(&w)), C.double(startS),
		(*C.struct_migbuf_outlook)(unsafe.Pointer(&o)))
	return o, b.failed("outlook_waiting", rc)
}

// OutlookMirror is how a disk would be mirrored: arguments of blockdev-mirror (sync full), and what is known of the guest's
// writes. The zero value is the worst that may be: what QEMU does when nothing is set, and one write at a time.
type OutlookMirror struct {
	size             uint64
	BufferBytes      float64 // buf-size: what the copy keeps in flight; 0: QEMU's own, 16 MiB
	GranularityBytes float64 // what one dirty bit stands for; 0: 65536
	SpeedBytesPerS   float64 // of the copy, as long as it writes; 0: not bounded
	RequestBytes     float64 // mean bytes of a write; 0: as Waiting says
	Depth            float64 // its writes in flight; 0: 1
	LinkBytesPerS    float64 // what its link carries, where nobody uses it and the buffer does not know; 0: not known
	Background       int32   // 1: copy-mode background, held or changed at the end; 0: write-blocking from the start
	reserved         int32
}

// OutlookMirrored is OutlookWaiting, and what a mirror of the whole disk would do for its guest. Errors: those of
// OutlookWaiting, for the mirror's fields too.
func (b *Buffer) OutlookMirrored(w Waiting, startS float64, mirror OutlookMirror) (Outlook, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	mirror.size = uint64(unsafe.Sizeof(mirror))
	o := Outlook{size: uint64(unsafe.Sizeof(Outlook{}))}
	rc := C.migbuf_outlook_mirrored(b.b, (*C.struct_migbuf_waiting)(unsafe.Pointer(&w)), C.double(startS),
		(*C.struct_migbuf_outlook_mirror)(unsafe.Pointer(&mirror)), (*C.struct_migbuf_outlook)(unsafe.Pointer(&o)))
	return o, b.failed("outlook_mirrored", rc)
}
