# A manual page out of one of these headers: awk -f man.awk -v version=0.1.0 buffer.h > migbuf_buffer.3
# The comment of @file is the description; every declaration follows with its own comment, lines as they stand. All names
# are in NAME, so that `man migbuf_buffer_tick` finds its page.
function quote(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^['.]/) s = "\\\\&" s; return s }
function plain(s) { gsub(/\*\*/, "", s); gsub(/\\\\/, "\\", s); return s }
# Comments: text is filled, what stands indented keeps its lines, items of a list are paragraphs.
function text(s,   n, i, line, part, fixed) {
    n = split(s, part, "\n")
    for (i = 1; i <= n; i++) {
        line = plain(part[i])
        if (line ~ /^ *$/) { if (fixed) print ".fi"; fixed = 0; if (i < n) gap = 1; continue }
        if (line ~ /^## /) { if (fixed) print ".fi"; fixed = gap = 0; headed = 1; print ".SS \"" quote(substr(line, 4)) "\""; continue }
        if (line ~ /^ ? ?([-*]|[0-9]+\.) /) { if (fixed) print ".fi"; fixed = gap = headed = 0; item = 1; sub(/^ */, "", line); sub(/^[-*] /, "", line); print ".IP \\(bu 2"; print quote(line); continue }
        if (gap) item = 0
        indented = line ~ /^   *[^ ]/ && !item
        if (gap && !headed) print indented ? ".sp" : ".PP"
        gap = headed = 0
        if (indented) { if (!fixed) print ".nf"; fixed = 1 }
        else { if (fixed) { print ".fi"; fixed = 0 } sub(/^ */, "", line) }
        print quote(line)
    }
    if (fixed) print ".fi"
    gap = item = headed = 0
}
function name_of(d,   m) {
    if (d ~ /^#define/) { split(d, m, /[ (]+/); return m[2] }
    if (d ~ /^struct/) { split(d, m, /[ ;{]+/); return "struct " m[2] }
    sub(/\(.*/, "", d); sub(/.*[ *]/, "", d); return d
}
function flush_declaration() {
    sub(/^MIGBUF_API /, "", declaration)
    count++
    name[count] = name_of(declaration); what[count] = declaration; says[count] = comment
    if (name[count] !~ /^(MIGBUF|struct)/) functions = functions (functions ? ", " : "") name[count]
    declaration = ""; comment = ""
}
/^\/\*\*/ { reading = 1; now = $0; sub(/^\/\*\* ?/, "", now) }
reading && !/^\/\*\*/ { now = $0; sub(/^ \* ?/, "", now); if ($0 ~ /^ \*\//) now = "" }
reading {
    ends = $0 ~ /\*\/ *$/
    sub(/ *\*\/ *$/, "", now)
    if (now ~ /^@file/) { file = 1; comment = ""; now = "" }
    else comment = comment now "\n"
    if (ends) { reading = 0; if (file) { description = comment; comment = ""; file = 0 } else sub(/\n+$/, "", comment) }
    next
}
/^MIGBUF_API / || /^struct migbuf_[a-z_]+ \{/ || /^struct migbuf_[a-z_]+;/ { open = 1 }
/^#define MIGBUF_[A-Z0-9_]+ / && !/_H$/ {
    line = $0
    if (line ~ /\/\*\*</) { comment = line; sub(/.*\/\*\*< */, "", comment); sub(/ *\*\/.*/, "", comment); sub(/ *\/\*\*<.*/, "", line) }
    declaration = line
    if (line ~ /MIGBUF_API/) { declaration = ""; comment = "" } else flush_declaration()
    next
}
open {
    line = $0
    if (declaration ~ /^MIGBUF_API/) sub(/^           /, "", line) # as far as MIGBUF_API stood
    declaration = declaration (declaration ? "\n" : "") line
    if ($0 ~ /;$/ && (declaration !~ /\{/ || $0 ~ /^};/)) { open = 0; flush_declaration() }
    next
}
END {
    room = FILENAME; sub(/.*\//, "", room); sub(/\.h$/, "", room)
    page = room == "migbuf" ? "migbuf" : "migbuf_" room
    n = split(description, part, "\n"); short = part[1]
    sub(/^\n+/, "", description)
    for (i = 1; i <= n && short == ""; i++) short = part[i]
    sub(/[.:;].*/, "", short)
    print "'\\\" -*- coding: UTF-8 -*-"
    print ".TH " toupper(page) " 3 \"\" \"migbuf " version "\" \"migbuf\""
    print ".SH NAME"
    print page (functions ? ", " functions : "") " \\- " quote(short)
    print ".SH SYNOPSIS\n.nf"
    print ".B #include <migbuf/" room ".h>\n.fi\n.PP\ncc ... $(pkg\\-config \\-\\-cflags \\-\\-libs migbuf)"
    print ".SH DESCRIPTION"
    text(description)
    split("MIGBUF_ struct. [a-z]", kind, " ")
    title[1] = "CONSTANTS"; title[2] = "STRUCTS"; title[3] = "FUNCTIONS"
    for (k = 1; k <= 3; k++) {
        shown = 0
        for (i = 1; i <= count; i++) {
            if (name[i] ~ /^MIGBUF/ ? k != 1 : name[i] ~ /^struct/ ? k != 2 : k != 3) continue
            if (!shown++) print ".SH " title[k]
            print ".SS \"" name[i] "\"\n.nf"
            m = split(what[i], part, "\n")
            for (j = 1; j <= m; j++) { gsub(/\/\*\*<? ?/, "/* ", part[j]); print part[j] == "" ? ".sp" : quote(part[j]) }
            print ".fi"
            if (says[i] != "") { gap = 1; text(says[i]) }
        }
    }
    print ".SH SEE ALSO"
    print page == "migbuf" ? see : ".BR migbuf (3)"
}
