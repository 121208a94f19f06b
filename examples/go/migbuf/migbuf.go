// SPDX-License-Identifier: MIT

// Package migbuf keeps live migrations of VMs with local disks from filling the volume their writes pile up in, and from
// starving a guest. It is the C library of that name, for hosts written in Go.
//
// # What a host needs
//
// One [Buffer] for each volume. It takes what was measured, and says once a second what to do with every migration. One
// [Disk] for each VM. It carries that out through the host's own QMP monitor, a [Monitor] with one method. The rest are
// the pure functions underneath, for hosts that compose a policy of their own.
//
//	buffer, err := migbuf.NewBuffer(volume.FreeBytes, nil)        // once
//
//	disk, err := migbuf.NewDisk("migbuf-vm1", "lxd_root")         // a migration starts
//	err = disk.Learn(ctx, monitor)                                // the host's own limits are known, and saved
//	err = buffer.Add(migbuf.NewMigration(1), geometries)          // or ErrNoSpace: not now
//
//	err = buffer.Sample(migbuf.Clock(), samples)                  // every second
//	decisions, err = buffer.Tick(migbuf.Clock(), decisions)
//	for _, d := range decisions {
//		if d.Action.Acts() {
//			err := disk.Apply(ctx, monitor, d)
//			tickNow, _ := buffer.Outcome(d.ID, migbuf.OutcomeOf(err))
//		}
//	}
//
//	err = disk.Restore(ctx, monitor)                              // the overlay is gone
//	err = buffer.Remove(1)
//
// # Three outcomes
//
// QEMU carried out a command, or QEMU refused it, or nobody knows: the answer did not come in time, the connection was
// lost, the context ended. QEMU may carry out such a command later. [Outcome] says more, [Monitor] says how a host tells
// a refusal from the rest, and [OutcomeOf] turns the error of a [Disk] into what [Buffer.Outcome] wants to hear.
//
// # Words
//
// Ω is the volume's capacity in bytes. An overlay is the copy-on-write file that a guest writes to while its disk is
// copied: a migration's files are its overlays. A unit is what one small write makes such a file grow by, mostly one
// cluster ([Geometry.Unit]). Limits and rates of growth count in units: a guest's 4 KiB write may grow a file by 64 KiB,
// and a limit in bytes would not notice. Unit bytes are units times the unit's size. A drain is a moment when QEMU lets
// all queued writes through whatever the limits are: a snapshot, the start or end of a block job, stop.
//
// # What a cgo package should say of itself
//
//   - It needs cgo, a C compiler and pkg-config. With CGO_ENABLED=0 it does not compile, and says why.
//   - Buffers, disks and ledgers are closed by Close, never by a finalizer. Several goroutines may use one. A closed one
//     gives [ErrInvalid].
//   - The library keeps no Go pointer, calls nothing back, starts no thread and never blocks. Its memory is malloc's.
//   - A tick is one crossing for all migrations, and so is handing over all samples.
//   - Errors are [*Error] with the library's code and text. errors.Is compares with the codes ([ErrNoSpace] and so on).
//   - Numbers that are no number (NaN) or out of range are refused, not computed with.
//   - A struct with defaults may be filled as a literal: where a New or Default function was not called, a field that is
//     zero has its default.
//
// The package is part of the library's tree and is of the same version. No server has its module path, so go get cannot
// fetch it: name the directory with a replace line,
//
//	go mod edit -require migbuf.example@v0.0.0 -replace migbuf.example=/path/to/migbuf/examples/go
//
// pkg-config finds the library: installed, or in the build tree with PKG_CONFIG_PATH the absolute path of build/lib, and
// LD_LIBRARY_PATH the same. Words here say what a name means, in which unit, and what 0 stands for. Formulas with their
// sources are in the C headers beside the library.
package migbuf

// #cgo pkg-config: migbuf migbuf-ram
// #include <stdlib.h>
// #include <time.h>
// #include <migbuf/migbuf.h>
import "C"

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Unlimited is what a rate without a limit reads as. It is never sent to QEMU.
const Unlimited uint64 = C.MIGBUF_UNLIMITED

// None stands in fields where 0 means "not known": it is known to be none. See [Geometry] and [Sample].
const None uint64 = C.MIGBUF_NONE

// BytesMax is the largest size of a volume: 2^62 bytes.
const BytesMax uint64 = C.MIGBUF_BYTES_MAX

// Version is the version of the library that is linked: major * 1'000'000 + minor * 1000 + patch.
func Version() int { return int(C.migbuf_version()) }

// VersionText is the same as text, "0.1.0".
func VersionText() string { return C.GoString(C.migbuf_version_text()) }

// HeaderVersion is the version this package was compiled with. The library may be newer.
const HeaderVersion = C.MIGBUF_VERSION

// Clock is the time since this machine was started, suspended time included. It goes on from one process to the next,
// which time.Since of a program's start does not: a [Buffer] that a new process loads knows then how much time passed
// without a process. Use it, or any clock that never goes back, for all calls on one buffer.
func Clock() time.Duration {
	var t C.struct_timespec
	C.clock_gettime(C.CLOCK_BOOTTIME, &t)
	return time.Duration(t.tv_sec)*time.Second + time.Duration(t.tv_nsec)
}

// milliseconds is a time for the library; ok is false for one before 0, which no clock shows.
func milliseconds(d time.Duration) (ms C.uint64_t, ok bool) {
	return C.uint64_t(d.Milliseconds()), d >= 0
}

func badTime(op string) error {
	return &Error{Op: op, Code: ErrRange, Text: "a time before 0", Outcome: OutcomeRefused}
}

// Code is a result code of the library, and an error to compare with: errors.Is(err, migbuf.ErrNoSpace).
type Code int

// The codes. Need, Have, Errno and Cause are fields of [Error].
const (
	ErrInvalid     Code = C.MIGBUF_E_INVALID     // a value makes no sense, or the handle is closed
	ErrRange       Code = C.MIGBUF_E_RANGE       // a number is outside its documented range
	ErrNoMem       Code = C.MIGBUF_E_NOMEM       // no memory
	ErrExists      Code = C.MIGBUF_E_EXISTS      // that id is there already
	ErrNotFound    Code = C.MIGBUF_E_NOTFOUND    // no such id, node or device
	ErrClock       Code = C.MIGBUF_E_CLOCK       // time went backwards
	ErrStruct      Code = C.MIGBUF_E_STRUCT      // this package is newer than the library and asks for what it lacks
	ErrInUse       Code = C.MIGBUF_E_IN_USE      // the bytes are in use, see Need and Have
	ErrNoSpace     Code = C.MIGBUF_E_NOSPACE     // does not fit, see Need and Have
	ErrState       Code = C.MIGBUF_E_STATE       // not possible in this state
	ErrProtocol    Code = C.MIGBUF_E_PROTOCOL    // a text is not what its format says
	ErrTooBig      Code = C.MIGBUF_E_TOO_BIG     // longer than its bound
	ErrPeer        Code = C.MIGBUF_E_PEER        // QEMU refused it, see Cause; what a Monitor's refusals match
	ErrTimeout     Code = C.MIGBUF_E_TIMEOUT     // the context ended, or the kernel did not answer in time
	ErrClosed      Code = C.MIGBUF_E_CLOSED      // the other side closed the connection
	ErrSystem      Code = C.MIGBUF_E_SYSTEM      // a system call failed, see Errno
	ErrUnsupported Code = C.MIGBUF_E_UNSUPPORTED // this build, peer or file system cannot do it
	ErrUnknown     Code = C.MIGBUF_E_UNKNOWN     // nobody knows whether it was carried out, see Cause
)

// Error is the library's own sentence for the code.
func (c Code) Error() string { return C.GoString(C.migbuf_strerror(C.int(c))) }

// Outcome is what became of something that was asked of QEMU.
type Outcome int32

// Outcomes. There are three, not two: a command whose answer did not come may have been carried out, or may be later.
const (
	OutcomeDone    Outcome = C.MIGBUF_OUTCOME_DONE    // it was carried out
	OutcomeRefused Outcome = C.MIGBUF_OUTCOME_REFUSED // nothing of it was carried out, and nothing will be
	OutcomeUnknown Outcome = C.MIGBUF_OUTCOME_UNKNOWN // neither is known: a time-out, a lost connection, a part of it
)

// String is "done", "refused" or "unknown"; "open" for 0, where commands are left to send.
func (o Outcome) String() string {
	return text([]string{"open", "done", "refused", "unknown"}, int(o))
}

// OutcomeOf is what became of a call on a [Disk] that returned err, for [Buffer.Outcome]. nil is done. An error that is
// none of this package's is unknown.
func OutcomeOf(err error) Outcome {
	var e *Error
	if err == nil {
		return OutcomeDone
	}
	if errors.As(err, &e) && e.Outcome != 0 {
		return e.Outcome
	}
	return OutcomeUnknown
}

// Error is a failed call. It matches its Code under errors.Is, and its Cause or Errno where there is one. One whose
// Outcome is unknown matches [ErrUnknown] too. On a [Disk], the Code is that of the last command and the Outcome that of
// the whole call: a question without an answer is ErrUnknown, and nothing of what was wanted has been sent, OutcomeRefused.
type Error struct {
	Op      string        // the function, "buffer_add"
	Code    Code          // the kind of failure
	Text    string        // what went wrong, in one sentence; empty where the code says it all
	Errno   syscall.Errno // of the failing system call, or 0
	Need    uint64        // how much was asked for, mostly bytes; 0 where it means nothing
	Have    uint64        // how much there is
	Caution uint64        // the part of Need that is there only because a figure is not known; see [Geometry]
	Cause   error         // what the host's monitor or its Saver said, or nil
	Outcome Outcome       // what became of a call on a Disk, see OutcomeOf; elsewhere 0
}

// Error is one line: the function, what went wrong, the numbers, the cause.
func (e *Error) Error() string {
	said := e.Text
	if said == "" {
		said = e.Code.Error()
	}
	said = "migbuf: " + e.Op + ": " + said
	if e.Need != 0 || e.Have != 0 {
		said += " (need " + strconv.FormatUint(e.Need, 10) + ", have " + strconv.FormatUint(e.Have, 10)
		if e.Caution != 0 {
			said += "; " + strconv.FormatUint(e.Caution, 10) + " of it because a figure is not known"
		}
		said += ")"
	}
	if cause := e.Unwrap(); cause != nil && !strings.HasSuffix(said, ": "+cause.Error()) {
		said += ": " + cause.Error()
	}
	return said
}

// Is reports whether target is the error's Code, or [ErrUnknown] and its Outcome is unknown.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && (code == e.Code || (code == ErrUnknown && e.Outcome == OutcomeUnknown))
}

// Unwrap gives the Cause, or the Errno.
func (e *Error) Unwrap() error {
	if e.Cause != nil {
		return e.Cause
	}
	if e.Errno != 0 {
		return e.Errno
	}
	return nil
}

// failed is the error of a result, nil for 0 and counts.
func failed(op string, rc C.int) error {
	if rc >= 0 {
		return nil
	}
	return &Error{Op: op, Code: Code(rc)}
}

// failedWith is the same with the library's detail, where it gave one.
func failedWith(op string, rc C.int, detail *C.struct_migbuf_error) error {
	if rc >= 0 {
		return nil
	}
	e := &Error{Op: op, Code: Code(rc)}
	if detail.text != nil {
		e.Text = C.GoString(detail.text)
		e.Errno = syscall.Errno(detail.os_errno)
		e.Need, e.Have, e.Caution = uint64(detail.need), uint64(detail.have), uint64(detail.caution)
	}
	return e
}

// ofHandle says of an error that the handle is the reason for it.
func ofHandle(open bool, from string, err error) error {
	if e, ok := err.(*Error); ok && !open {
		e.Code, e.Text = ErrInvalid, "it is closed, or was not made by "+from
	}
	return err
}

// text is the n-th word of a type, "unknown" where there is none.
func text(words []string, n int) string {
	if n < 0 || n >= len(words) {
		return "unknown"
	}
	return words[n]
}

// flagText names the flags that are set, the lowest first.
func flagText(words []string, flags uint32) string {
	var set []string
	for i, word := range words {
		if flags&(1<<i) != 0 {
			set = append(set, word)
		}
	}
	if rest := flags &^ (1<<len(words) - 1); rest != 0 {
		set = append(set, "0x"+strconv.FormatUint(uint64(rest), 16))
	}
	if set == nil {
		return "none"
	}
	return strings.Join(set, "|")
}

// orDefaults is a struct that begins with its size, as the library wants it. One that has it came from a New or Default
// function and stays as it is; in one that has none, fields that are 0 get their defaults.
func orDefaults[T any](given, defaults T) T {
	from, to := reflect.ValueOf(given), reflect.ValueOf(&defaults).Elem()
	if from.Field(0).Uint() != 0 {
		return given
	}
	for i := 1; i < from.NumField(); i++ {
		if from.Type().Field(i).IsExported() && !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return defaults
}

// withText calls f with a C string. A text with a zero byte would be cut there, and so is refused.
func withText(op, s string, f func(*C.char) C.int) error {
	if strings.IndexByte(s, 0) >= 0 {
		return &Error{Op: op, Code: ErrInvalid, Text: "there is a zero byte in a name"}
	}
	c := C.CString(s)
	defer C.free(unsafe.Pointer(c))
	return failed(op, f(c))
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

// at is where a slice's items are; nil for none. Records of this package have the layout of the library's (layout.go).
func at[T any](s []T) unsafe.Pointer {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Pointer(&s[0])
}

func doubles(s []float64) *C.double { return (*C.double)(at(s)) }

// scratch is room for n indices.
func scratch(n int) *C.size_t { return (*C.size_t)(at(make([]uintptr, n))) }
