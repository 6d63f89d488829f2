# Shared by tools/run and tools/test: a virtual environment for flexmap, made on first use.

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# install_packages NAME...: Debian packages, when root; fails when it cannot.
install_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
  say "installing Debian packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  { [ -n "${FLEXMAP_APT_UPDATED:-}" ] || apt-get update -qq; } >/dev/null 2>&1
  FLEXMAP_APT_UPDATED=1
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1
}

find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
    [ -n "$name" ] && command -v "$name" >/dev/null || continue
    "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$name"; return; }
  done
  return 1
}

# ensure_venv EXTRAS: .venv holds flexmap with these extras and matches pyproject.toml.
ensure_venv() {
  local extras="$1" python stamp=".venv/.flexmap-$1"
  python="$(find_python)" || { install_packages python3 && python="$(find_python)"; } \
    || die "Python 3.11 or newer is needed: install it (Debian 12, Ubuntu 24.04: apt install python3 python3-venv) or set PYTHON"
  if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1 || {
      rm -rf .venv
      install_packages python3-venv && "$python" -m venv .venv
    } || die "$python cannot make a virtual environment: apt install python3-venv"
  fi
  if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    say "installing flexmap[$extras] into .venv"
    .venv/bin/python -m pip install -q --disable-pip-version-check -e ".[$extras]" || die "pip could not install flexmap[$extras]"
    touch "$stamp"
  fi
}
