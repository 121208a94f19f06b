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
	if s := run(t); s.Moved != 3 || s.Decisions < 10 {
		t.Errorf("%+v", s)
	}
}

// One migration is given up: its writes are merged back and its host's limits restored while the others leave.
func TestGivenUp(t *testing.T) {
	if s := run(t, "-policy", "planner", "-give-up", "1"); s.Moved != 2 || s.Reverted != 1 {
		t.Errorf("%+v", s)
	}
}
