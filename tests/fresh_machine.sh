#!/usr/bin/env bash
# Runs a command in a clean checkout on a fresh machine: a distribution with its own Python, in a folder.
#
#     tests/fresh_machine.sh debian-13                  # make test
#     tests/fresh_machine.sh ubuntu-24.04 make run
#     tests/fresh_machine.sh debian-12 make test-fast
#
# It needs root, debootstrap and the distribution's archive; for Ubuntu also Ubuntu's keyring, in KEYRING. It checks out
# HEAD. The machine stays in /var/tmp/fresh_machine, or in the folder FRESH_MACHINE, so the second command starts at
# once. Remove the folder for a new one.
set -euo pipefail

case ${1:-} in
  debian-12) suite=bookworm components=main browser=chromium ;;
  debian-13) suite=trixie components=main browser=chromium ;;
  # Ubuntu has Chromium as a snap only, so the tests of pages are skipped there.
  ubuntu-24.04) suite=noble components=main,universe browser= ;;
  *)
    echo "usage: tests/fresh_machine.sh debian-12|debian-13|ubuntu-24.04 [COMMAND...]" >&2
    exit 2
    ;;
esac
root=${FRESH_MACHINE:-/var/tmp/fresh_machine}/$1
shift
[ $# -gt 0 ] || set -- make test
[ "$(id -u)" = 0 ] || { echo "fresh_machine.sh: only root can make a machine; use sudo" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "fresh_machine.sh: debootstrap is missing; install it" >&2; exit 1; }

if [ ! -e "$root/ready" ]; then
  rm -rf --one-file-system "$root"
  options=(--variant=minbase "--components=$components" --include=python3,python3-venv,make,git,ca-certificates)
  if [ "$suite" = noble ]; then
    options+=("--keyring=${KEYRING:-/usr/share/keyrings/ubuntu-archive-keyring.gpg}")
    # An older debootstrap has no script of this name. All releases of Ubuntu have the same one.
    debootstrap "${options[@]}" "$suite" "$root" "" gutsy
  else
    debootstrap "${options[@]}" "$suite" "$root"
  fi
  touch "$root/ready"
fi

checkout=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
if [ -e "$root/project" ]; then
  git -C "$root/project" fetch --quiet "$checkout" HEAD
  git -C "$root/project" checkout --quiet --force --detach FETCH_HEAD
else
  git clone --quiet "$checkout" "$root/project"
fi

# The mounts and all processes end with the command. The network's names and certificates are those of this machine.
export root browser
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child bash -euc '
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
    touch "$root$file"
    mount --bind "$file" "$root$file"
  done
  inside=(chroot "$root" env --ignore-environment HOME=/root LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin)
  if [ -n "$browser" ] && [[ "$*" == *test* ]] && [ ! -e "$root/usr/bin/$browser" ]; then
    "${inside[@]}" DEBIAN_FRONTEND=noninteractive sh -c "apt-get update --quiet && apt-get install --quiet --yes --no-install-recommends $browser"
  fi
  exec "${inside[@]}" sh -c "cd /project && exec \"\$@\"" sh "$@"
' bash "$@"
