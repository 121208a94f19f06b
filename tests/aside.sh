# Sourced: unpacks Debian packages of one release and its backports into a folder, from the mirror apt is configured with.
# Nothing is installed and no list of the system is touched. What goes wrong is said in a word on stdout.

# The mirror of the first Debian source there is, old format or new; security updates live elsewhere.
aside_mirror() {
    {
        sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]].*/\2/p' \
            /etc/apt/sources.list /etc/apt/sources.list.d/*.list
        sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p' /etc/apt/sources.list.d/*.sources
    } 2>/dev/null | grep -E '/debian/?$' | head -n 1
}

# aside_apt DIR ARGUMENT...: apt-get with lists and a cache of its own, for a system on which nothing is installed.
aside_apt() {
    local dir=$1
    shift
    timeout 300 apt-get -qq -o Dir::Etc::SourceList="$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State::Lists="$dir/lists" -o Dir::State::status=/dev/null \
        -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3 "$@" >>"$dir/log" 2>&1
}

# aside_unpack DIR RELEASE HOW PACKAGE...: into DIR/root, of the release's backports where they are there.
# HOW is `whole`, with all they depend on down to the C library, or `alone`, for the system's own libraries.
aside_unpack() {
    local dir=$1 release=$2 how=$3 url p
    shift 3
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "no apt here"; return 1; }
    url=$(aside_mirror)
    [ -n "$url" ] || { echo "apt knows no mirror of Debian"; return 1; }
    rm -rf "$dir/root" "$dir/packages"
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/packages" "$dir/root"
    : >"$dir/log"
    for p in "$release" "$release-backports"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $p main"
    done >"$dir/sources.list"
    aside_apt "$dir" update || { echo "no lists of $release"; return 1; }
    if [ "$how" = whole ]; then
        aside_apt "$dir" -y --no-install-recommends --download-only -t "$release-backports" install "$@" &&
            mv "$dir"/cache/archives/*.deb "$dir/packages"
    else
        (cd "$dir/packages" && aside_apt "$dir" -t "$release-backports" download "$@")
    fi || { echo "$* of $release cannot be fetched"; return 1; }
    for p in "$dir"/packages/*.deb; do
        dpkg -x "$p" "$dir/root" >>"$dir/log" 2>&1 || { echo "unpacking failed"; return 1; }
    done
    rm -rf "$dir/packages" "$dir/cache" "$dir/lists"
}

# aside_have WHAT DIR RUNS UNPACK [PROGRAM...]: unpacks unless it runs already, both functions of the caller's; one at a time.
# Where it cannot be had, TAP's skip line if there is a program to run, else a word on stderr; for ten minutes it is not tried
# again.
aside_have() {
    local what=$1 dir=$2 runs=$3 unpack=$4 word
    shift 4
    exec 9>"$dir/lock"
    flock 9
    if "$runs"; then
        rm -f "$dir/cannot"
    elif [ -n "$(find "$dir/cannot" -mmin -10 2>/dev/null)" ]; then
        word=$(cat "$dir/cannot")
    elif word=$("$unpack" && { "$runs" || { echo "it does not run"; false; }; }); then
        word=
    else
        echo "$word" >"$dir/cannot"
    fi
    if [ -n "${word:-}" ]; then
        if [ $# -gt 0 ]; then
            echo "1..0 # SKIP $what cannot be unpacked aside: $word"
            exit 0
        fi
        echo "$what: $word" >&2
        exit 1
    fi
    exec 9>&-
}
