#!/usr/bin/env bash
# `make deps`: installs the libraries that build-aux/probe.sh misses, and nothing when all is there.
#   YES=1      do not ask
#   PYTHON=1   python3 with venv as well (for `make venv`)
# Without a terminal it goes ahead only under YES=1, CI=true, or as root in a container; otherwise it
# prints the command and exits 2.
set -u
cd "$(dirname "$0")/.." || exit 1

missing() {
  bash build-aux/probe.sh --missing
  if [ "${PYTHON:-}" = 1 ] && ! python3 -c 'import venv, ensurepip' 2>/dev/null; then echo python; fi
}

# package SYSTEM NAME: what NAME is called there.
package() {
  case $1:$2 in
  apt:compiler | apt:OpenMP) echo build-essential ;;
  apt:OpenBLAS) echo libopenblas-dev ;;
  apt:HDF5) echo libhdf5-dev ;;
  apt:libyaml) echo libyaml-dev ;;
  apt:GMP) echo libgmp-dev ;;
  apt:xxHash) echo libxxhash-dev ;;
  apt:jansson) echo libjansson-dev ;;
  apt:zlib) echo zlib1g-dev ;;
  apt:PCRE2) echo libpcre2-dev ;;
  apt:ICU) echo libicu-dev ;;
  apt:cmocka) echo libcmocka-dev ;;
  apt:pkg-config) echo pkg-config ;;
  apt:python) echo python3 python3-venv ;;
  dnf:compiler) echo gcc make ;;
  dnf:OpenMP) echo libgomp ;;
  dnf:OpenBLAS) echo openblas-devel ;;
  dnf:HDF5) echo hdf5-devel ;;
  dnf:libyaml) echo libyaml-devel ;;
  dnf:GMP) echo gmp-devel ;;
  dnf:xxHash) echo xxhash-devel ;;
  dnf:jansson) echo jansson-devel ;;
  dnf:zlib) echo zlib-devel ;;
  dnf:PCRE2) echo pcre2-devel ;;
  dnf:ICU) echo libicu-devel ;;
  dnf:cmocka) echo libcmocka-devel ;;
  dnf:pkg-config) echo pkgconf-pkg-config ;;
  dnf:python) echo python3 ;;
  pacman:compiler | pacman:OpenMP) echo base-devel ;;
  brew:compiler) echo gcc ;;
  brew:ICU) echo icu4c ;;
  brew:OpenMP) echo libomp ;;
  *:pkg-config) echo pkgconf ;;
  *:python) echo python ;;
  *) echo "${2,,}" ;;
  esac
}

packages() {
  local name
  for name in $wanted; do package "$1" "$name"; done | xargs -n 1 | sort -u | xargs
}

wanted=$(missing | xargs)
if [ -z "$wanted" ]; then
  echo "deps: everything is there"
  exit 0
fi
# Without pkg-config Debian's OpenBLAS and HDF5 are not found where they lie.
command -v pkg-config >/dev/null || wanted="pkg-config $wanted"
echo "deps: missing: $wanted"

if ! command -v apt-get >/dev/null; then
  echo "deps: this script installs on Debian and Ubuntu only; elsewhere:"
  for entry in "dnf:dnf install" "pacman:pacman -S --needed" "brew:brew install"; do
    command -v "${entry%%:*}" >/dev/null && found=1 && echo "  ${entry#*:} $(packages "${entry%%:*}")"
  done
  [ -n "${found:-}" ] || echo "  $wanted, with their headers, by your system's package manager"
  exit 2
fi

names=$(packages apt)
quiet="env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l NEEDRESTART_SUSPEND=1 apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
install="$quiet install -y --no-install-recommends $names"
if [ "$(id -u)" = 0 ]; then
  root=
elif sudo -n true 2>/dev/null; then
  root="sudo -n"
else
  echo "deps: neither root nor passwordless sudo; as root, run:"
  echo "  apt-get update && apt-get install --no-install-recommends $names"
  exit 2
fi

in_container() {
  [ -e /.dockerenv ] || [ -e /run/.containerenv ] || [ -n "${container:-}" ] || [ ! -d /run/systemd/system ]
}

echo "deps: would run: ${root:+$root }apt-get install --no-install-recommends $names"
if [ "${YES:-}" = 1 ] || [ "${CI:-}" = true ]; then
  :
elif [ -t 0 ]; then
  read -r -p "Install these packages? [Y/n] " answer
  case $answer in
  "" | [yY]*) ;;
  *)
    echo "deps: nothing installed"
    exit 2
    ;;
  esac
elif [ -n "$root" ] || ! in_container; then
  echo "deps: not a terminal; run \`make deps YES=1\` to agree, or the command above"
  exit 2
fi

# A container image often ships without package lists; a list may also name versions that are gone.
known=1
for name in $names; do
  apt-cache show "$name" >/dev/null 2>&1 || known=0
done
if [ $known = 1 ] && $root $install; then
  :
else
  $root $quiet update || echo "deps: apt-get update failed; trying with the lists that are there"
  $root $install || {
    echo "deps: apt-get failed; the command was: $root $install" >&2
    exit 2
  }
fi

wanted=$(missing | xargs)
if [ -n "$wanted" ]; then
  echo "deps: installed, yet still not usable: $wanted (see the compiler's answer with: bash -x build-aux/probe.sh --missing)" >&2
  exit 2
fi
echo "deps: installed"
