# What follows decides on the machine itself, when it boots, how its etcd is to start. Every pass of the loop looks at
# the world anew and takes one step, so that it may be interrupted anywhere. See docs/flavor-etcd.md for the table.

say() { # each line once, however often it is true
	[ "$*" = "${said-}" ] || printf 'infrakit: %s\n' "$*"
	said="$*"
}

ctl() { # ctl ENDPOINTS COMMAND...
	asked=$1
	shift
	ETCDCTL_API=3 "$etcdctl" --endpoints="$asked" --dial-timeout=1s --command-timeout=2s "$@"
}

cluster_of() { ctl "$1" endpoint status --write-out=json 2>/dev/null | sed -n 's/.*"cluster_id":\([0-9]*\).*/\1/p'; }

last_words() { sed -n 's/^Error: *//p' | tail -n 1; }

# The lobby: a throw-away etcd at the peer port of the first member, where no client of the cluster looks. It exists only
# while the first has no data and no cluster answers; there the others say that they have no data either.
open_lobby() {
	if [ -n "$lobby" ] && kill -0 "$lobby" 2>/dev/null; then return; fi
	rm -rf "$data/lobby"
	mkdir "$data/lobby" || return
	(
		cd "$data/lobby" && exec "$etcd" --name lobby --data-dir data --logger zap --log-level error \
			--listen-client-urls "$listen_peer" --advertise-client-urls "$peer" \
			--listen-peer-urls unix://lobby:1 --initial-advertise-peer-urls unix://lobby:1 \
			--initial-cluster lobby=unix://lobby:1 --heartbeat-interval 50 --election-timeout 250
	) &
	lobby=$!
}

close_lobby() {
	if [ -n "$lobby" ]; then
		kill -KILL "$lobby" 2>/dev/null
		wait "$lobby" 2>/dev/null
		lobby=
	fi
	rm -rf "$data/lobby"
}

has_log() { # etcd makes its log before the first entry; founded with an empty one, it would wait for a leader for ever
	[ -d "$data/member/wal" ] || return 1
	log="$data/member/wal/0000000000000000-0000000000000000.wal"
	[ -f "$log" ] || return 0 # an old one: the first file has gone
	for each in "$data"/member/snap/*.snap; do
		[ -e "$each" ] && return 0
	done
	grep -q peerURLs "$log" # the first entry is a member
}

step_aside() { # nothing is deleted: what cannot be used any more stays beside
	mv "$data/member" "$data/member.$1.$(date +%s)"
}

found_or_wait() { # no cluster answers, and there is no data here: true only if there is none anywhere
	if [ "$bootstrap" = never ]; then
		say "no cluster answers at $endpoints, and Bootstrap is never: waiting for one"
		return 1
	fi
	if [ -n "$first_peer" ]; then
		if ctl "$first_peer" put "empty/$name" "" >/dev/null 2>&1; then
			say "no cluster answers; told $first_peer that there is no data here; waiting until the first has founded one"
		else
			say "there is no data here, no cluster answers at $endpoints, and $first_peer does not gather members for a new" \
				"one: waiting. If the quorum and its volumes are lost, restore a snapshot"
		fi
		return 1
	fi
	missing=
	if [ -n "$others" ]; then
		open_lobby
		empty=$(ctl "$peer" get --prefix --keys-only empty/ 2>/dev/null)
		for other in $others; do
			printf '%s\n' "$empty" | grep -qxF "empty/$other" || missing="$missing $other"
		done
	fi
	[ -n "$missing" ] || return 0
	say "there is no data here, and no cluster answers at $endpoints. A new one is founded only when every member has said" \
		"that it has no data; not yet:$missing"
	return 1
}

join_or_wait() { # the cluster answers at $living: true when it expects this member to start
	if ! members=$(ctl "$living" member list 2>/dev/null); then
		say "$living answers, but does not list its members"
		return 1
	fi
	entry=$(printf '%s\n' "$members" |
		awk -F ', ' -v peer="$peer" 'index("," $4 ",", "," peer ",") { print $1 " " $3; exit }')
	case $entry in
	'')
		removed_or_wait || return 1
		join
		;;
	*' ') # it was added, and has not started since
		removed_or_wait || return 1
		cluster=$(initial_cluster)
		;;
	*)
		if [ -d "$data/member/wal" ]; then return 0; fi
		rm -f "$joining"
		if error=$(ctl "$living" member remove "${entry%% *}" 2>&1 >/dev/null); then
			say "the data of the member ${entry%% *} is lost: removed it, to be added anew"
		else
			say "the data of the member ${entry%% *} is lost, and $living does not remove it yet:" \
				"$(printf '%s\n' "$error" | last_words)"
		fi
		return 1
		;;
	esac
}

removed_or_wait() { # data of which the cluster at $living knows nothing is given up only if it was that cluster's own
	[ -d "$data/member/wal" ] || return 0
	theirs=$(cluster_of "$living")
	ours=$(cat "$data/member/cluster" 2>/dev/null)
	if [ -n "$theirs" ] && [ "$ours" = "$theirs" ]; then
		say "the cluster does not list the member that this data is of any more: it is put aside"
		step_aside removed
		return 0
	fi
	say "the data here is of cluster ${ours:-unknown}, and $living is of cluster ${theirs:-unknown}, which does not list" \
		"it: waiting, so that none of the two is lost. To give up this data, move $data/member away"
	return 1
}

join() {
	# Once it is added, the quorum may need this very member, and no cluster answers until it has started. So what is
	# needed for that is kept before, beside the log that does not exist yet: lost together, they prove nothing together.
	mkdir -p "$data/member"
	printf '%s,%s\n' "$(initial_cluster)" "$name=$peer" >"$joining"
	sync "$joining" 2>/dev/null || sync
	if told=$(ctl "$living" member add "$name" --peer-urls="$peer" 2>&1); then
		say "added $peer to the members"
		now=$(printf '%s\n' "$told" | sed -n 's/^ETCD_INITIAL_CLUSTER="\(.*\)"$/\1/p')
		cluster=${now:-$(cat "$joining")}
		return 0
	fi
	say "$living does not add $peer yet: $(printf '%s\n' "$told" | last_words)"
	case $told in
	*deadline* | *timed\ out* | *unavailable*) ;; # it may have been added
	*) rm -f "$joining" && rmdir "$data/member" ;;
	esac
	return 1
}

initial_cluster() { # the list of members as etcd's flag wants it; one that has never started has no name
	printf '%s\n' "$members" | awk -F ', ' -v peer="$peer" -v name="$name" '{
		n = index("," $4 ",", "," peer ",") ? name : ($3 == "" ? "unstarted-" $1 : $3)
		urls = $4
		gsub(",", "," n "=", urls)
		printf "%s%s=%s", (NR > 1 ? "," : ""), n, urls
	}'
}

remember() { # beside the log: which cluster it is of, as soon as its own etcd can tell
	main=$$
	(
		while kill -0 "$main" 2>/dev/null; do
			sleep 0.5
			ours=$(cluster_of "$client")
			if [ -n "$ours" ]; then
				printf '%s\n' "$ours" >"$data/member/cluster.new" && mv "$data/member/cluster.new" "$data/member/cluster"
				exit
			fi
		done
	) &
}

beside() { # what runs beside ends with etcd, and with it the whole machine; what ends by itself is started again
	main=$$
	(
		while :; do
			/bin/sh -c "$run"
			printf 'infrakit: what runs beside etcd has ended (%s); it is started again\n' "$?"
			sleep 1
		done
	) &
	(
		trap '' TERM
		while kill -0 "$main" 2>/dev/null; do sleep 0.5; done
		kill -TERM 0
	) &
}

lobby=
living=
cluster="$name=$peer"
[ -n "$data" ] || data=${INFRAKIT_VOLUME-}
trap 'close_lobby; exit 143' TERM INT
while :; do
	if [ -z "$data" ] || ! [ -d "$data" ]; then
		say "there is no directory '$data' for the data: waiting for the volume"
		sleep 1
		continue
	fi
	joining="$data/member/joining"
	if [ -d "$data/member" ] && ! [ -f "$joining" ] && ! has_log; then
		say "there is data without a log, or with one in which nothing is yet, which is of no use: it is put aside"
		step_aside incomplete
	fi
	healthy=$(ctl "$endpoints" endpoint health 2>&1 | sed -n 's/ is healthy:.*//p')
	living=$(printf '%s\n' "$healthy" | grep -vxF "$client" | head -n 1)
	if printf '%s\n' "$healthy" | grep -qxF "$client"; then
		say "another etcd answers at $client, the address of this member: waiting for its end"
	elif [ -n "$living" ]; then
		close_lobby
		if join_or_wait; then
			state=existing
			break
		fi
	elif [ -d "$data/member/wal" ]; then
		state=existing
		break
	elif [ -s "$joining" ]; then
		say "no cluster answers; this member may be the one that its quorum lacks"
		cluster=$(cat "$joining")
		state=existing
		break
	elif found_or_wait; then
		state=new
		# No two clusters that were ever founded here can be mistaken for each other.
		token="$token-$(date +%s)-$$"
		break
	fi
	sleep 0.5
done
close_lobby
trap - TERM INT
if [ -d "$data/member/wal" ]; then
	say "starting etcd with the data that is here"
elif [ "$state" = new ]; then
	say "founding a cluster"
else
	say "starting etcd without data, as a member that was added"
fi
[ -s "$data/member/cluster" ] || remember
[ -z "$run" ] || beside
exec "$etcd" --name "$name" --data-dir "$data" \
	--listen-client-urls "$listen_client" --advertise-client-urls "$client" \
	--listen-peer-urls "$listen_peer" --initial-advertise-peer-urls "$peer" \
	--initial-cluster "$cluster" --initial-cluster-state "$state" --initial-cluster-token "$token" "$@"
