# Sourced: unpacks Debian packages of the suite bookworm-backports into a folder, from the mirror apt is configured with.
# Nothing is installed and no list of the system is touched.

# The mirror of the first Debian source there is, old format or new; security and updates live elsewhere.
aside_mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+bookworm[[:space:]].*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' |
        grep -v security
}

# aside_unpack DIR PACKAGE...: into DIR/root; a package the suite has not comes from the system's own. On failure a word.
aside_unpack() {
    local dir=$1 suite=bookworm-backports url options p
    shift
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "no apt here"; return 1; }
    url=$(aside_mirror | head -n 1)
    [ -n "$url" ] || { echo "apt knows no mirror of Debian 12"; return 1; }
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/packages" "$dir/root"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $suite main" >"$dir/sources.list"
    options="-o Dir::Etc::SourceList=$dir/sources.list -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists=$dir/lists -o Dir::Cache=$dir/cache -o APT::Sandbox::User=root"
    # shellcheck disable=SC2086
    timeout 300 apt-get -qq $options update >"$dir/log" 2>&1 || { echo "no lists of $suite"; return 1; }
    # shellcheck disable=SC2086
    (cd "$dir/packages" && for p in "$@"; do
        timeout 300 apt-get -qq $options download "$p" || timeout 300 apt-get -qq download "$p"
    done) >>"$dir/log" 2>&1
    for p in "$dir"/packages/*.deb; do
        dpkg -x "$p" "$dir/root" >>"$dir/log" 2>&1 || { echo "unpacking failed"; return 1; }
    done
}

# aside_cannot WORD [PROGRAM...]: says that it cannot be had; TAP's skip line where there is a program to run.
aside_cannot() {
    if [ $# -ge 2 ]; then
        echo "1..0 # SKIP $aside_what cannot be unpacked aside: $1"
        exit 0
    fi
    echo "$1" >&2
    exit 1
}
