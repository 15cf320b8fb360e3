#!/usr/bin/env bash
# The life of a package on a machine of its own, as package_test.go boots one:
# installed, configured, used, upgraded over the running daemon, removed, purged.
#
#     lifecycle.sh OLD.deb NEW.deb LIBRARY
#
# Every step says what it looks at; the first that is not so ends it.
set -euo pipefail
old=$1 new=$2 library=$3
export SYSTEMD_PAGER=cat SYSTEMD_COLORS=0 DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
work=$(mktemp -d)
cd "$work"

step() { printf '== %s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*"
	ichwatch status || true
	journalctl -u ichwatch --no-pager -n 60 || true
	exit 1
}
# until DESCRIPTION SECONDS COMMAND...: waits for a command to succeed.
until_so() {
	local what=$1 deadline=$((SECONDS + $2))
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || fail "$what"
		sleep 0.2
	done
}
at_pacs() { [ "$(find "$work/pacs" -type f | wc -l)" -ge "$1" ]; }
active() { systemctl is-active --quiet ichwatch.service; }

step "installed: what is missing is said, and nothing runs"
dpkg --install "$old" >installed.txt 2>&1 || { cat installed.txt; fail "dpkg --install"; }
grep -q 'ichwatch runtime install' installed.txt || fail "ONNX Runtime was not asked for: $(cat installed.txt)"
grep -q '/etc/ichwatch/ichwatch.yaml' installed.txt || fail "the configuration was not asked for"
systemctl is-enabled --quiet ichwatch.service ichwatch.socket || fail "the units are not enabled"
! active || fail "the daemon runs without a configuration"
[ "$(stat -c %U:%a /var/lib/ichwatch/spool)" = ichwatch:700 ] || fail "the spool is not the daemon's alone"
[ "$(readlink /var/lib/ichwatch/models/current)" = /usr/share/ichwatch/models/resnet18 ] || fail "no model to begin with"
man -w ichwatch-send >/dev/null || fail "no manual page"

step "configured and started: readiness is told, the socket is systemd's"
ichwatch runtime install --from "$library" --sha256 "$(sha256sum "$library" | cut -d ' ' -f 1)"
cat >/etc/ichwatch/ichwatch.yaml <<-END
	dicom:
	  ae_title: ICHWATCH
	destinations:
	  - name: pacs
	    address: 127.0.0.1:10400
	    called_ae_title: PACS
END
ichwatch check-config || fail "check-config"
mkdir pacs
storescp -od "$work/pacs" 10400 >>"$work/pacs.txt" 2>&1 &
systemctl start ichwatch.socket ichwatch.service || fail "it does not start"
active || fail "it is not active"
echoscu -aec ICHWATCH localhost 11112 || fail "no answer to a C-ECHO"
pid=$(systemctl show -P MainPID ichwatch.service)
[ "$(stat -c %U "/proc/$pid")" = ichwatch ] || fail "it does not run as its user"
! grep -q dicom.listen <(journalctl -u ichwatch -p warning --no-pager) || fail "the socket was not taken over"

step "a study arrives, is analysed and forwarded; its files are private"
ichwatch phantom study --class subdural --slices 12 || fail "phantom"
ichwatch send --called ICHWATCH localhost:11112 study || fail "send"
until_so "the study did not reach the PACS" 60 at_pacs 12
[ -z "$(find /var/lib/ichwatch/spool -type f ! -perm 600)" ] || fail "files that others may read: $(find /var/lib/ichwatch/spool -type f ! -perm 600)"

step "upgraded while scanners knock and send: none is refused, nothing is lost"
(
	while [ ! -e stop ]; do
		if echoscu -to 20 -aec ICHWATCH localhost 11112 >>echo.txt 2>&1; then echo answered; else echo refused; fi
	done >echoes.txt
) &
knocking=$!
(
	for ((n = 1; ; n++)); do
		ichwatch phantom "moving/$n" --seed "$n" --class normal --slices 8 >/dev/null
		for slice in $(find "moving/$n" -name '*.dcm'); do
			ichwatch send --called ICHWATCH --retries 5 localhost:11112 "$slice" >>sent.txt 2>&1 || echo "$slice" >>untaken.txt
		done
		[ ! -e stop ] || exit 0
	done
) &
sending=$!
until_so "the studies are not under way" 60 at_pacs 13
dpkg --install "$new" || fail "dpkg --install over a running daemon"
touch stop
wait "$sending"
wait "$knocking"
[ ! -e untaken.txt ] || { cat sent.txt; fail "objects were not taken: $(cat untaken.txt)"; }
slices=$(find moving -name '*.dcm' | wc -l)
[ "$pid" != "$(systemctl show -P MainPID ichwatch.service)" ] || fail "the old daemon still runs"
printf '   %s C-ECHOs answered, %s refused\n' "$(grep -c answered echoes.txt)" "$(grep -c refused echoes.txt || true)"
! grep -q refused echoes.txt || { cat echo.txt; fail "an association was refused during the upgrade"; }
grep -q "$(dpkg-deb -f "$new" Version)" <(dpkg-query -W -f '${Version}\n' ichwatch) || fail "not the new version"
[ "$(grep -c . /etc/ichwatch/ichwatch.yaml)" = 6 ] || fail "the configuration was touched"
until_so "slices did not reach the PACS" 120 at_pacs $((12 + slices))

step "hangs: the watchdog has it restarted"
pid=$(systemctl show -P MainPID ichwatch.service)
mkdir -p /run/systemd/system/ichwatch.service.d
printf '[Service]\nWatchdogSec=3s\n' >/run/systemd/system/ichwatch.service.d/short.conf
systemctl daemon-reload
systemctl restart ichwatch.service
pid=$(systemctl show -P MainPID ichwatch.service)
kill -STOP "$pid"
until_so "a daemon that hangs was not restarted" 60 bash -c "p=\$(systemctl show -P MainPID ichwatch.service); [ \"\$p\" != $pid ] && [ \"\$p\" != 0 ]"
until_so "it does not come back" 30 echoscu -to 5 -aec ICHWATCH localhost 11112
rm -r /run/systemd/system/ichwatch.service.d

step "removed with studies that the PACS has not: they stay, through a purge too"
kill %1
ichwatch phantom waiting --class normal --slices 12 || fail "phantom"
ichwatch send --called ICHWATCH localhost:11112 waiting || fail "send"
dpkg --remove ichwatch || fail "dpkg --remove"
! systemctl is-active --quiet ichwatch.socket || fail "the socket is still open"
[ -e /etc/ichwatch/ichwatch.yaml ] || fail "removal took the configuration"
cp /etc/ichwatch/ichwatch.yaml .
dpkg --purge ichwatch >purged.txt 2>&1 || fail "dpkg --purge"
grep -q 'studies that may not have reached the PACS' purged.txt || fail "the purge did not speak of the studies: $(cat purged.txt)"
[ ! -e /etc/ichwatch ] || fail "the purge left the configuration"
[ -z "$(dpkg -L ichwatch 2>/dev/null)" ] && [ ! -e /usr/bin/ichwatch ] && [ ! -e /usr/share/ichwatch ] || fail "the purge left files"

step "installed again: what was left is forwarded"
mkdir -p /etc/ichwatch
cp ichwatch.yaml /etc/ichwatch/
storescp -od "$work/pacs" 10400 >>"$work/pacs.txt" 2>&1 &
dpkg --install "$new" || fail "dpkg --install"
until_so "what was left did not reach the PACS" 120 at_pacs $((24 + slices))

step "purged with an empty spool: nothing is left"
dpkg --remove ichwatch
rm -rf /var/lib/ichwatch/spool
dpkg --purge ichwatch
[ ! -e /var/lib/ichwatch ] || fail "the purge left $(find /var/lib/ichwatch)"
echo PASSED
