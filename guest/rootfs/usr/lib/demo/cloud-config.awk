# Takes from a #cloud-config document what this guest understands, one file per key: <out>/cfg.<key>.
# Understood YAML: block mappings and sequences, plain and quoted scalars, flow sequences of scalars, literal and folded blocks.

function indent_of(s) { match(s, /^ */); return RLENGTH }
function trim(s) { sub(/^[ \t]+/, "", s); sub(/[ \t]+$/, "", s); return s }

# A scalar without quotes and without a comment behind it.
function scalar(s,   q) {
    s = trim(s); q = substr(s, 1, 1)
    if (q == "\"") {
        if (match(s, /^"([^"\\]|\\.)*"/)) s = substr(s, 2, RLENGTH - 2)
        gsub(/\\"/, "\"", s); gsub(/\\n/, "\n", s); gsub(/\\t/, "\t", s); gsub(/\\\\/, "\\", s)
        return s
    }
    if (q == "'") {
        if (match(s, /^'([^']|'')*'/)) s = substr(s, 2, RLENGTH - 2)
        gsub(/''/, "'", s)
        return s
    }
    sub(/[ \t]+#.*$/, "", s)
    return trim(s)
}
function shell_quote(s) { gsub(/'/, "'\\''", s); return "'" s "'" }

# [a, "b c", 'd'] as one shell command.
function command(s,   out, item, c, q, i) {
    s = trim(s); s = substr(s, 2); out = ""; item = ""; q = ""
    for (i = 1; i <= length(s); i++) {
        c = substr(s, i, 1)
        if (q != "") { item = item c; if (q == "\"" && c == "\\") { i++; item = item substr(s, i, 1) } else if (c == q) q = ""; continue }
        if ((c == "\"" || c == "'") && trim(item) == "") { q = c; item = item c; continue }
        if (c == "," || c == "]") {
            if (trim(item) != "") out = out (out == "" ? "" : " ") shell_quote(scalar(item))
            item = ""
            if (c == "]") break
            continue
        }
        item = item c
    }
    return out
}
function wanted(k) { return k ~ /^(hostname|fqdn|user|password|ssh_authorized_keys|runcmd|bootcmd|chpasswd)$/ }
function emit(k, s) { if (wanted(k)) print s > (out "/cfg." k) }
function list_item(s) {
    s = trim(s)
    if ((key == "runcmd" || key == "bootcmd") && s ~ /^\[/) emit(key, command(s))
    else emit(key, scalar(s))
}
function is_block(s) { return s ~ /^[|>][-+0-9]*[ \t]*(#.*)?$/ }

BEGIN { key = ""; block = 0 }
{ sub(/\r$/, "") }

# Inside a literal or folded block: everything indented deeper than its header.
block {
    if ($0 ~ /^[ \t]*$/) { held = held "\n"; next }
    if (indent_of($0) > block_indent) {
        if (block_strip < 0) block_strip = indent_of($0)
        if (held != "") { printf "%s", held > (out "/cfg." block_key); held = "" }
        emit(block_key, substr($0, block_strip + 1))
        next
    }
    block = 0; held = ""
}
function open_block(k, at) { block = 1; block_key = k; block_indent = at; block_strip = -1; held = "" }

/^[ \t]*(#.*)?$/ { next }
/^---/ { next }

# A key at the left edge.
/^[A-Za-z_][A-Za-z0-9_-]*[ \t]*:/ {
    key = $0; sub(/[ \t]*:.*$/, "", key)
    rest = $0; sub(/^[^:]*:[ \t]*/, "", rest)
    if (is_block(rest)) { open_block(key, 0); next }
    if (key == "chpasswd") {
        # Flow form: only `expire` can sensibly be in there, and passwords never expire here.
        next
    }
    if (rest ~ /^\[/) {
        # A flow sequence of scalars: one item a line.
        inner = command(rest); n = split(inner, parts, /' '/)
        for (i = 1; i <= n; i++) { item = parts[i]; sub(/^'/, "", item); sub(/'$/, "", item); emit(key, item) }
        next
    }
    if (rest != "" && rest !~ /^#/) emit(key, scalar(rest))
    next
}

# A list item.
/^[ \t]*-([ \t]|$)/ {
    at = indent_of($0); item = $0; sub(/^[ \t]*-[ \t]*/, "", item)
    if (is_block(item)) { open_block(key, at); next }
    if (key == "chpasswd" && sub_key != "list") next
    list_item(item)
    next
}

# A key below one.
/^[ \t]+[A-Za-z_]+[ \t]*:/ {
    if (key != "chpasswd") next
    sub_key = trim($0); rest = sub_key; sub(/[ \t]*:.*$/, "", sub_key); sub(/^[^:]*:[ \t]*/, "", rest)
    if (sub_key == "list" && is_block(rest)) open_block("chpasswd", indent_of($0))
}
