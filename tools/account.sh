# Runs a command in this clone by a login of an account: root, or an ordinary user with sudo, who is made if need be.
# For machines that are thrown away: the containers of the workflows, and the roots of tools/fresh.py.
# usage: sh tools/account.sh ACCOUNT COMMAND...
set -eu
account=$1
shift
if ! id "$account" >/dev/null 2>&1; then
  useradd --create-home --shell /bin/bash "$account"
  echo "$account ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/$account"
fi
chown -R "$account" .
exec su --login "$account" -c "cd '$PWD' && $*"
