# shellcheck shell=sh
# TAP of the programs that are tested from a shell. To be sourced, with tested=PATH set: makes $dir, and removes it at the end.
# The last line of a test is: tap_end
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0
failed=0

check() { # "what" command...
    what=$1
    shift
    n=$((n + 1))
    if "$@" >"$dir/out" 2>&1; then
        echo "ok $n - $what"
    else
        failed=1
        echo "not ok $n - $what"
        head -n 40 "$dir/out" | sed 's/^/# /'
    fi
}

refuses() { # WORDS OPTIONS...: exit status 2, nothing on stdout, and one line with these words after the program's name
    words=$1
    shift
    "$tested" "$@" >"$dir/said" 2>"$dir/message" </dev/null
    status=$?
    cat "$dir/message"
    [ $status -eq 2 ] && [ ! -s "$dir/said" ] && [ "$(wc -l <"$dir/message")" -eq 1 ] &&
        grep -q -e "^${tested##*/}: $words" "$dir/message"
}

tap_end() {
    echo "1..$n"
    [ $failed -eq 0 ]
}
