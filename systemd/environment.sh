# What both installers do; they read this file. $program names what is installed: /opt/$program, and its messages.
#
#   put_environment LOCK [STRIP]   make the environment with what LOCK names; the function STRIP takes away what
#                                  has no place there from the copy of the sources in "$1"

source=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${DESTDIR:-}
root=${root%/}
prefix=/opt/$program
python=${PYTHON:-python3}

say() { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

put_file() { install -D -m 0644 "$source/$1" "$root$2"; }
drop_file() { rm -f "$root$2"; }

live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Made beside the environment that is in use, on which the program keeps running until the new one is complete.
put_environment() {
    lock=$1
    strip=${2:-:}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than 3.11"
    fresh=$root$prefix.new
    "$python" -m venv --clear --prompt "$program" "$fresh"
    set -- --quiet --disable-pip-version-check --no-cache-dir --no-compile
    [ -z "${WHEELS:-}" ] || set -- "$@" --no-index --find-links "$WHEELS"
    "$fresh/bin/pip" install "$@" --require-hashes -r "$source/$lock"
    # Built from a copy: building leaves things behind, which would be root's in a checkout that is not. And with what
    # the lock names, in an environment that goes away: left to itself pip would fetch, as root, whatever is newest.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir "$copy/source"
    cp -R "$source/agent" "$source/firmware_shims" "$source/pyproject.toml" "$source/README.md" "$copy/source/"
    "$strip" "$copy/source"
    "$python" -m venv "$copy/builder"
    "$copy/builder/bin/pip" install "$@" --require-hashes -r "$source/requirements-build.lock"
    "$copy/builder/bin/pip" wheel --quiet --disable-pip-version-check --no-index --no-build-isolation --no-deps \
        --wheel-dir "$copy/wheels" "$copy/source"
    "$fresh/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-index --no-deps \
        "$copy"/wheels/*.whl
    # Scripts carry the path they were made at.
    grep -rlIF "$fresh" "$fresh/bin" "$fresh/pyvenv.cfg" | while read -r script; do
        sed -i "s|$fresh|$prefix|g" "$script"
    done
    # The service may not write there; compiled now, it starts in a fraction of the time.
    "$fresh/bin/python" -m compileall -q -f -s "$fresh" -p "$prefix" "$fresh/lib" >/dev/null || true
    rm -rf "$root$prefix.old"
    [ ! -e "$root$prefix" ] || mv "$root$prefix" "$root$prefix.old"
    mv "$fresh" "$root$prefix"
    rm -rf "$root$prefix.old"
}
