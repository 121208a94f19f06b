// SPDX-License-Identifier: MIT

// Package migbuf keeps live migrations of VMs with local disks from filling the volume their writes pile up in, and from
// starving a guest: the C library of that name, for hosts written in Go.
//
// A host needs two things of it. One [Buffer] per volume takes what was measured and says once a second what to do with
// every migration; one [Disk] per VM carries that out through the host's own QMP monitor, a [Monitor] with one method.
// The rest are the pure functions underneath, for hosts that compose a policy of their own. Meaning, units, formulas and
// sources stand in the C headers, which are the manual; names here are theirs. Left out are the rooms qmp, qmp_socket and
// report, as in Go the host's monitor does what they do, and lxd: the daemons have client packages of their own.
//
// What a cgo package should say of itself:
//
//   - Buffers, disks and ledgers are closed by Close, never by a finalizer, and may be used by several goroutines. A closed
//     one gives [ErrInvalid].
//   - The library keeps no Go pointer, calls nothing back, starts no thread and never blocks: its memory is malloc's.
//   - A tick is one crossing for all migrations, and so is handing over all samples.
//   - Errors are [*Error] with the library's code and text; errors.Is compares with the codes ([ErrNoSpace] …).
//   - Floats that are not a number or out of range are refused, not computed with.
//
// It is found by pkg-config: installed, or in the build tree with PKG_CONFIG_PATH the absolute path of build/lib, and
// LD_LIBRARY_PATH the same.
package migbuf

// #cgo pkg-config: migbuf
// #include <migbuf/migbuf.h>
import "C"

import (
	"strconv"
	"syscall"
	"unsafe"
)

// Unlimited is what a rate without a limit reads as. It is never sent to QEMU.
const Unlimited uint64 = C.MIGBUF_UNLIMITED

// BytesMax is the largest size of a volume or of one migration's files.
const BytesMax uint64 = C.MIGBUF_BYTES_MAX

// Version is the version of the library that is linked: major * 1'000'000 + minor * 1000 + patch.
func Version() int { return int(C.migbuf_version()) }

// VersionText is the same as text, "0.1.0".
func VersionText() string { return C.GoString(C.migbuf_version_text()) }

// HeaderVersion is the version this package was compiled with; the library may be newer.
const HeaderVersion = C.MIGBUF_VERSION

// Code is a result code of the library, and an error to compare with: errors.Is(err, migbuf.ErrNoSpace).
type Code int

// The codes, as error.h explains them.
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
	ErrPeer        Code = C.MIGBUF_E_PEER        // QEMU refused it
	ErrTimeout     Code = C.MIGBUF_E_TIMEOUT     // the deadline passed
	ErrClosed      Code = C.MIGBUF_E_CLOSED      // the other side closed the connection
	ErrSystem      Code = C.MIGBUF_E_SYSTEM      // a system call failed, see Errno
	ErrUnsupported Code = C.MIGBUF_E_UNSUPPORTED // this build, peer or file system cannot do it
)

// Error is the library's own sentence for the code.
func (c Code) Error() string { return C.GoString(C.migbuf_strerror(C.int(c))) }

// Error is a failed call. It matches its Code under errors.Is, and its Cause or Errno where there is one.
type Error struct {
	Op         string // the function, "buffer_add"
	Code       Code
	Text       string        // what went wrong, in one sentence; empty where the code says it all
	Errno      syscall.Errno // of the failing system call, or 0
	Need, Have uint64        // how much was asked for and how much there is, mostly bytes; 0 where they mean nothing
	Cause      error         // what the host's monitor said, or nil
}

func (e *Error) Error() string {
	text := "migbuf: " + e.Op + ": "
	if e.Text != "" {
		text += e.Text
	} else {
		text += e.Code.Error()
	}
	if e.Need != 0 || e.Have != 0 {
		text += " (need " + strconv.FormatUint(e.Need, 10) + ", have " + strconv.FormatUint(e.Have, 10) + ")"
	}
	if cause := e.Unwrap(); cause != nil {
		text += ": " + cause.Error()
	}
	return text
}

// Is reports whether target is the error's Code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
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
		e.Need, e.Have = uint64(detail.need), uint64(detail.have)
	}
	return e
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
