// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The test program is evacuate itself when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("EVACUATE_MAIN") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is one evacuation with real QEMUs. MIGBUF_BUILD is migbuf's build tree; the default is build beside the sources.
func run(t *testing.T, arguments ...string) Summary {
	t.Helper()
	tree := os.Getenv("MIGBUF_BUILD")
	if tree == "" {
		tree = "../../../build"
	}
	if _, err := os.Stat(filepath.Join(tree, "examples/evacuate/guest.elf")); err != nil {
		t.Skip("the guest is not built; set MIGBUF_BUILD to migbuf's build tree:", err)
	}
	c := exec.Command(os.Args[0], append([]string{"-json", "-build", tree}, arguments...)...)
	c.Env = append(os.Environ(), "EVACUATE_MAIN=1")
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	var s Summary
	if json.Unmarshal(out, &s) != nil || err != nil {
		t.Fatalf("%v: %s\n%s", err, out, &said)
	}
	t.Logf("%s", out)
	if s.Writes < 300 || s.Lost != 0 || s.Overflows != 0 || !s.LimitsRestored || s.PeakBytes >= s.BufferBytes {
		t.Errorf("%+v\n%s", s, &said)
	}
	return s
}

// Three guests leave through a buffer that they would fill in seconds: none fails, no acknowledged write is lost, the
// host's limits are in force afterwards.
func TestEvacuation(t *testing.T) {
	if s := run(t, "-policy", "paper"); s.Moved != 3 || s.Decisions < 10 {
		t.Errorf("%+v", s)
	}
}

// Four of five migrations are given up, each at another place: their writes are merged back, their guests go on, and their
// host's limits are restored while the fifth leaves.
func TestGivenUp(t *testing.T) {
	if s := run(t, "-vms", "5", "-give-up", "0:base,1:mirror,2:memory,3:stop"); s.Moved != 1 || s.Reverted != 4 {
		t.Errorf("%+v", s)
	}
}

// One QEMU does nothing for some seconds: what is in force on it is unknown meanwhile, and all leave nevertheless.
func TestOneHangs(t *testing.T) {
	if s := run(t, "-hang", "1"); s.Moved != 3 || s.Unknown == 0 || s.Refused != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhereToGiveUp(t *testing.T) {
	if where, err := givenUp("0:base,2:memory", 3); err != nil || len(where) != 2 || where[2] != "memory" {
		t.Error(where, err)
	}
	if where, err := givenUp("", 3); err != nil || len(where) != 0 {
		t.Error(where, err)
	}
	for _, text := range []string{"3:base", "-1:base", "0", "0:", "0:end", "x:base", "0:base,", ","} {
		if _, err := givenUp(text, 3); err == nil {
			t.Error(text)
		}
	}
}
