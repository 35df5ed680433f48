# shellcheck shell=bash disable=SC2034
# Shell functions that quickstart and runtests share: Debian packages, virtual environments, progress lines.

# What the parts and guests need at run time, and what building python-ldap and lxc needs (there are no wheels of them).
VMCLOUD_PACKAGES=(
  ca-certificates curl python3 python3-venv redis-server slapd ldap-utils lxc lxcfs dnsmasq-base busybox-static
  iproute2 nftables procps kmod
)
# Only the tests need these.
VMCLOUD_TEST_PACKAGES=(git util-linux systemd ansible-core mmdebstrap ldapvi postgresql chromium fonts-liberation faketime)
VMCLOUD_BUILD_PACKAGES=(gcc libc6-dev python3-dev pkg-config libldap2-dev libsasl2-dev lxc-dev)
# What these packages would start at the next boot of a machine; vmcloud starts its own.
VMCLOUD_UNWANTED_SERVICES=(redis-server slapd lxc lxc-net lxc-monitord lxcfs postgresql)
VMCLOUD_PYTHON=/usr/bin/python3

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# missing_packages PACKAGE… prints those that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

# install_packages PACKAGE… installs what is missing, and nothing starts because of it: not now, not at the next boot.
install_packages() {
  local missing=() unwanted=() service log policy=/usr/sbin/policy-rc.d made_policy=
  mapfile -t missing < <(missing_packages "$@")
  if [[ ${#missing[@]} == 0 ]]; then return 0; fi
  [[ $EUID == 0 ]] || die "these Debian packages are missing: ${missing[*]}; install them, or run this as root"
  command -v apt-get >/dev/null || die "this is no Debian: install the counterparts of ${missing[*]}"
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  for service in "${VMCLOUD_UNWANTED_SERVICES[@]}"; do
    if [[ ! -e /lib/systemd/system/$service.service && ! -e /etc/init.d/$service ]]; then unwanted+=("$service"); fi
  done
  if [[ ! -e $policy ]]; then
    made_policy=$policy
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
  fi
  # slapd would make a directory of its own otherwise.
  if [[ " ${missing[*]} " == *" slapd "* ]] && command -v debconf-set-selections >/dev/null; then
    echo "slapd slapd/no_configuration boolean true" | debconf-set-selections
  fi
  log=$(mktemp)
  # In a subshell, so that its trap leaves the caller's alone.
  if ! (
    trap '[[ -z $made_policy ]] || rm -f "$made_policy"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "${missing[@]}"
  ) > "$log" 2>&1; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    die "apt-get failed; its last lines are above"
  fi
  rm -f "$log"
  for service in "${unwanted[@]}"; do
    if [[ -e /lib/systemd/system/$service.service ]]; then
      if command -v systemctl >/dev/null; then
        systemctl disable --quiet "$service" >/dev/null 2>&1 || true
      else
        find /etc/systemd/system -type l -name "$service.service" -delete
      fi
    fi
    if [[ -e /etc/init.d/$service ]]; then update-rc.d "$service" disable >/dev/null 2>&1 || true; fi
  done
}

# make_venv FOLDER makes a virtual environment unless a sound one is there: same place, same interpreter.
make_venv() {
  local folder=$1
  if [[ -x $folder/bin/python ]] && grep -qsF "$folder" "$folder/bin/activate" \
    && [[ $("$folder/bin/python" -c 'import sys, pip; print(sys.base_prefix, *sys.version_info[:3])' 2>/dev/null) \
      == $("$VMCLOUD_PYTHON" -c 'import sys; print(sys.prefix, *sys.version_info[:3])') ]]; then
    return 0
  fi
  "$VMCLOUD_PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$VMCLOUD_PYTHON is older than 3.11"
  say "making a virtual environment in $folder from $VMCLOUD_PYTHON ($("$VMCLOUD_PYTHON" -V))"
  rm -rf "$folder"
  mkdir -p "${folder%/*}"
  "$VMCLOUD_PYTHON" -m venv "$folder"
}

# hash_of FILE… prints one hash of names and contents.
hash_of() { sha256sum "$@" | sha256sum | cut -d' ' -f1; }

# install_requirements VENV FILE… installs FILE (the last one; the others are what it includes) unless that was done before.
install_requirements() {
  local venv=$1 stamp log
  shift
  stamp=$venv/requirements.sha256
  if [[ -e $stamp && $(<"$stamp") == "$(hash_of "$@")" ]]; then return 0; fi
  say "installing Python packages of ${!###*/}"
  log=$(mktemp)
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "${!#}" 'setuptools>=77' wheel > "$log" 2>&1; then
    tail -n 25 "$log" >&2
    rm -f "$log"
    die "pip failed; its last lines are above"
  fi
  rm -f "$log"
  hash_of "$@" > "$stamp"
}

# ensure_users makes the users that web, server and monitor run as, and the group in which web and server share the job database
# (as vmcloud/config.py names them; vmcloud up does it too).
ensure_users() {
  local user groups
  for user in vmcloud vmcloud-web vmcloud-server vmcloud-monitor; do
    groups=''
    case $user in vmcloud-web | vmcloud-server) groups=vmcloud ;; esac
    getent passwd "$user" >/dev/null || useradd --system --user-group --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin ${groups:+--groups "$groups"} "$user"
    if [[ $groups && " $(id -nG "$user") " != *" $groups "* ]]; then usermod --append --groups "$groups" "$user"; fi
  done
}

# raise_inotify lifts the kernel's limit of 128 inotify instances for all guests together; raise_inotify keep|once: for good or until the next boot.
raise_inotify() {
  local keep=$1 key=fs.inotify.max_user_instances wanted=1024 current
  current=$(cat /proc/sys/fs/inotify/max_user_instances 2>/dev/null || echo "$wanted")
  if ((current >= wanted)); then return 0; fi
  say "raising $key from $current to $wanted (guests' inits need them)"
  echo "$wanted" > /proc/sys/fs/inotify/max_user_instances 2>/dev/null || say "  not allowed here"
  if [[ $keep == keep && -d /etc/sysctl.d ]]; then echo "$key = $wanted" > /etc/sysctl.d/60-vmcloud.conf; fi
}
