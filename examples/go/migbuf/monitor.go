// SPDX-License-Identifier: MIT

//go:build cgo

package migbuf

import (
	"context"
	"errors"
	"strings"
)

// Monitor is a host's own QMP connection: one command, its answer.
//
// Run sends the command and waits for the answer. resp, where it is not nil, gets the whole reply, an object with the
// member "return", as encoding/json decodes it. What Run returns tells the three outcomes apart:
//
//	nil                        QEMU carried it out
//	an error matching ErrPeer  QEMU answered with an error: it refused. See [Refused]
//	any other error            nobody knows: a time-out, a lost connection, a context that ended, an answer that
//	                           cannot be read. QEMU may carry it out later
//
// An error is only a refusal when the host knows that it is QEMU's own answer. Taken for unknown, a refusal costs a
// question more and another way to do the same; taken for a refusal, a command that is carried out after all breaks the
// promise on Ω, and the host's own limits may be lost.
//
// When Run has returned, its command was sent or never will be. A command that was sent is not taken back by a context
// that ends. A [Disk] does not rely on Run to watch its context, and sends nothing before the last Run has returned.
//
// args is nil, and "arguments" is left out then, or what marshals to an object. A [Host] calls Run from goroutines of its
// own, beside the host's commands: Run lets several callers wait for their turn.
//
// [FromRunner] makes one of Incus' *qmp.Monitor, or of LXD's with its run method exported; [FromLXD] of LXD's as it is.
type Monitor interface {
	Run(ctx context.Context, command string, args any, resp any) error
}

// Refused marks an error as QEMU's own answer: it matches [ErrPeer], and err too. For a Monitor's Run. nil stays nil.
// A host's own type of error may match ErrPeer by itself instead, with a method Is.
func Refused(err error) error {
	if err == nil {
		return nil
	}
	return &refusal{err}
}

type refusal struct{ said error }

func (r *refusal) Error() string        { return r.said.Error() }
func (r *refusal) Is(target error) bool { return target == ErrPeer }
func (r *refusal) Unwrap() error        { return r.said }

// Runner is a monitor that knows no contexts, with one error for all that can go wrong: Incus' *qmp.Monitor is one. As with
// [Monitor] resp gets the whole reply, {"return": …}, and not what is in it.
type Runner interface {
	Run(command string, args any, resp any) error
}

// FromRunner makes a [Monitor] of a monitor without contexts. refused tells which of its errors are QEMU's own answers;
// with nil none is, and every error is an unknown outcome.
//
// In LXD's and Incus' package qmp that is the type qmpError, which it does not export. So the function belongs there:
//
//	// Refused tells whether QEMU answered with an error of its own.
//	func Refused(err error) bool {
//		var e *qmpError
//		return errors.As(err, &e)
//	}
//
// Where their source is to stay as it is, [RefusedByText] does it by the text. A nil Runner makes a nil Monitor.
func FromRunner(r Runner, refused func(error) bool) Monitor {
	if r == nil {
		return nil
	}
	return &fromRunner{r, refused}
}

type fromRunner struct {
	Runner
	refused func(error) bool
}

func (m *fromRunner) Run(_ context.Context, command string, args any, resp any) error {
	return marked(m.Runner.Run(command, args, resp), m.refused)
}

func marked(err error, refused func(error) bool) error {
	if err != nil && refused != nil && refused(err) {
		return Refused(err)
	}
	return err
}

// RefusedByText tells whether an error, or one that it wraps, reads as LXD's and Incus' monitors write QEMU's answers:
// one of QMP's classes of errors, a colon, a description. Their other errors (disconnected, timed out, an unexpected
// response) begin otherwise.
func RefusedByText(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		for _, class := range []string{"GenericError: ", "CommandNotFound: ", "DeviceNotFound: ", "DeviceNotActive: ", "KVMMissingCap: "} {
			if strings.HasPrefix(err.Error(), class) {
				return true
			}
		}
	}
	return false
}
