// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"migbuf.example/migbuf"
)

// peer stands for a QEMU: the test sees each command, and says what comes back.
type peer struct {
	conn     net.Conn
	commands chan asked
}

type asked struct {
	ID        uint32          `json:"id"`
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
}

func newPeer(t *testing.T) (*Monitor, *peer) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmp")
	listener, err := net.Listen("unix", path)
	must(t, err)
	defer listener.Close()
	p := &peer{commands: make(chan asked, 10)}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		p.conn = conn
		_, _ = conn.Write([]byte("{\"QMP\": {}}\n"))
		scanner := bufio.NewScanner(conn)
		for scanner.Scan() {
			var a asked
			_ = json.Unmarshal(scanner.Bytes(), &a)
			if a.Execute == "qmp_capabilities" {
				p.answer(a, `"return": {}`)
				continue
			}
			p.commands <- a
		}
		close(p.commands)
	}()
	m, err := connect(path)
	must(t, err)
	t.Cleanup(func() { m.Close() })
	return m, p
}

func (p *peer) answer(a asked, text string) {
	id, _ := json.Marshal(a.ID)
	_, _ = p.conn.Write([]byte(`{"id": ` + string(id) + `, ` + text + "}\n"))
}

// serve answers each command as f says, and not at all where f says nothing.
func (p *peer) serve(f func(a asked) string) {
	go func() {
		for a := range p.commands {
			if text := f(a); text != "" {
				p.answer(a, text)
			}
		}
	}()
}

// What comes back tells the three outcomes apart.
func TestMonitorOutcomes(t *testing.T) {
	m, p := newPeer(t)
	var reply struct {
		Return int `json:"return"`
	}
	for _, c := range []struct {
		answer          string
		refused, failed bool
	}{
		{`"return": 7`, false, false},
		{`"error": {"class": "GenericError", "desc": "no"}`, true, true},
		{`"return": "text"`, false, true},
	} {
		came := make(chan error)
		go func() { came <- m.Run(background, "query-x", nil, &reply) }()
		p.answer(<-p.commands, c.answer)
		if err := <-came; errors.Is(err, migbuf.ErrPeer) != c.refused || (err != nil) != c.failed {
			t.Error(c.answer, err)
		}
	}
	came := make(chan error)
	go func() { came <- m.Run(background, "stop", nil, nil) }()
	<-p.commands
	p.conn.Close()
	for _, err := range []error{<-came, m.Run(background, "cont", nil, nil)} {
		if err == nil || errors.Is(err, migbuf.ErrPeer) {
			t.Error(err)
		}
	}
}

// A late answer is nobody's, and who waits for his turn no longer than his context lasts sends nothing, then or later.
func TestMonitorLateAnswers(t *testing.T) {
	m, p := newPeer(t)
	came := make(chan error)
	ctx, cancel := context.WithCancel(background)
	go func() { came <- m.Run(ctx, "first", nil, nil) }()
	first := <-p.commands
	waits, give := context.WithTimeout(background, 10*time.Millisecond)
	defer give()
	if err := m.Run(waits, "second", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	cancel()
	if err := <-came; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var reply struct {
		Return string `json:"return"`
	}
	go func() { came <- m.Run(background, "third", nil, &reply) }()
	third := <-p.commands
	p.answer(first, `"return": "of the first"`)
	p.answer(third, `"return": "of the third"`)
	if err := <-came; err != nil || third.Execute != "third" || reply.Return != "of the third" {
		t.Error(err, third, reply)
	}
	ended, end := context.WithCancel(background)
	end()
	if err := m.Run(ended, "fourth", nil, nil); !errors.Is(err, context.Canceled) || len(p.commands) != 0 {
		t.Error(err)
	}
	m.timeout = func(command string) time.Duration {
		return map[string]time.Duration{"query-block": time.Millisecond}[command]
	}
	if err := m.Run(background, "query-block", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A time that is over before a byte was written costs one command, not the connection: it is needed to undo what was done.
func TestMonitorTooLateToSend(t *testing.T) {
	m, p := newPeer(t)
	p.serve(func(asked) string { return `"return": {}` })
	over, end := context.WithDeadline(background, time.Now().Add(-time.Second))
	defer end()
	if err := m.send(over, 1000, "stop", nil, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if err := m.Run(background, "cont", nil, nil); err != nil {
		t.Error(err)
	}
}

// What a peer says that is no QEMU: it costs its deadline and no more, and is taken neither for done nor for refused.
func TestMonitorLies(t *testing.T) {
	long := strings.Repeat("x", 1<<17)
	for _, c := range []struct {
		name, says string // for the first command; $ is its id
		lost       bool   // the connection is of no use any more
	}{
		{"an id and no more", `{"id": $}`, false},
		{"a return and an error", `{"return": {}, "error": {"class": "a", "desc": "b"}, "id": $}`, false},
		{"an error without a class", `{"error": {"desc": "x"}, "id": $}`, false},
		{"an error that is a text", `{"error": "x", "id": $}`, false},
		{"an error of null", `{"error": null, "id": $}`, false},
		{"an id that is a text", `{"return": {}, "id": "$"}`, false},
		{"an id that is a real", `{"return": {}, "id": $.5}`, false},
		{"no id", `{"return": {}}`, false},
		{"another's id", `{"return": {}, "id": 4000000000}`, false},
		{"a list", `[1]`, false},
		{"no JSON", `HTTP/1.1 400 Bad Request`, false},
		{"an error without an id", `{"error": {"class": "a", "desc": "b"}}`, false},
		{"a line that is too long", `{"return": "` + long + `", "id": $}`, true},
		{"silence", ``, false},
	} {
		m, p := newPeer(t)
		m.timeout = func(string) time.Duration { return 100 * time.Millisecond }
		came := make(chan error)
		go func() { came <- m.Run(background, "stop", nil, nil) }()
		a := <-p.commands
		_, _ = p.conn.Write([]byte(strings.ReplaceAll(c.says, "$", fmt.Sprint(a.ID)) + "\n"))
		if err := <-came; err == nil || errors.Is(err, migbuf.ErrPeer) {
			t.Errorf("%s: %v", c.name, err)
		}
		m.timeout = patient
		p.serve(func(asked) string { return `"return": {}` })
		if err := m.Run(background, "cont", nil, nil); (err != nil) != c.lost || errors.Is(err, migbuf.ErrPeer) {
			t.Errorf("%s, then: %v", c.name, err)
		}
	}
}

// A monitor that another client holds greets nobody; what does not greet as QEMU does is none.
func TestMonitorGreetings(t *testing.T) {
	const none, other = "no greeting", "does not speak QMP"
	for _, c := range []struct{ says, words string }{{"", none}, {`{"QMP"`, ""}, {"{}\n", other}, {"[]\n", other}, {`{"QMP": 7}` + "\n", other},
		{"220 welcome\n", other}, {`{"return": {}, "id": 1}` + "\n", other}, {strings.Repeat(" ", 1<<17), none}} {
		says := c.says // the peer reads it while the loop goes on
		path := filepath.Join(t.TempDir(), "qmp")
		listener, err := net.Listen("unix", path)
		must(t, err)
		go func() {
			if conn, err := listener.Accept(); err == nil {
				_, _ = conn.Write([]byte(says))
				heard := bufio.NewScanner(conn) // it agrees to whatever it hears
				for heard.Scan() {
					_, _ = conn.Write([]byte(`{"return": {}, "id": 1}` + "\n"))
				}
				conn.Close()
			}
		}()
		within := 50 * time.Millisecond
		if strings.HasSuffix(c.says, "\n") { // all that it says comes, however busy the machine is
			within = patient("")
		}
		if m, err := connectWithin(path, within); err == nil || m != nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%.20q: %v", says, err)
		}
		listener.Close()
	}
}
