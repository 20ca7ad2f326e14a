/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kern/entry_map.h"
#include "agent/kern/pins.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

void entry_maps_done(struct entry_maps *maps)
{
	closep(&maps->remotes);
	closep(&maps->sources);
	closep(&maps->server_ports);
	closep(&maps->exempt_clients);
	closep(&maps->counters);
	closep(&maps->kept);
	*maps = ENTRY_MAPS_NONE;
}

static int open_map(const char *path, bool read_only, uint32_t type, uint32_t key_size,
	uint32_t value_size, int *ret_fd, uint32_t *ret_max)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = read_only ? BPF_F_RDONLY : 0);
	_cleanup_close_ int fd = -1;
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof(info);

	fd = bpf_obj_get_opts(path, &options);
	if (fd < 0)
		return -errno;
	if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0)
		return -errno;
	if (info.type != type || info.key_size != key_size || info.value_size != value_size)
		return -EINVAL;
	*ret_max = info.max_entries;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int entry_maps_open(bool read_only, struct entry_maps *ret)
{
	_cleanup_(entry_maps_done) struct entry_maps maps = ENTRY_MAPS_NONE;
	uint32_t max_sources, max_kept, unused;
	int r;

	r = open_map(PINS_MAPS_DIR "/remotes", read_only, BPF_MAP_TYPE_HASH,
		sizeof(struct maps_remote_key), sizeof(struct maps_entry), &maps.remotes,
		&maps.max_rows);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/sources", read_only, BPF_MAP_TYPE_HASH,
		sizeof(struct maps_source_key), sizeof(struct maps_entry), &maps.sources,
		&max_sources);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/server_ports", read_only, BPF_MAP_TYPE_HASH, sizeof(uint32_t),
		sizeof(struct maps_server_ports), &maps.server_ports, &unused);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/exempt_clients", read_only, BPF_MAP_TYPE_LPM_TRIE,
		sizeof(struct maps_client_key), sizeof(uint8_t), &maps.exempt_clients, &unused);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/counters", read_only, BPF_MAP_TYPE_PERCPU_ARRAY,
		sizeof(uint32_t), sizeof(struct maps_direct_counters), &maps.counters,
		&maps.n_slots);
	if (r < 0)
		return r;
	r = open_map(PINS_MAPS_DIR "/kept", read_only, BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
		sizeof(struct maps_kept_counters), &maps.kept, &max_kept);
	if (r < 0)
		return r;
	if (max_sources != maps.max_rows || max_kept != maps.n_slots)
		return -EINVAL;
	*ret = maps;
	maps = ENTRY_MAPS_NONE;
	return 0;
}

union row_key {
	struct maps_remote_key remote;
	struct maps_source_key source;
};

static struct row row_of(enum row_map map, const union row_key *key)
{
	struct row row = { .map = map, .tunnel = SIZE_MAX };

	if (map == ROW_REMOTES) {
		row.remote.be = key->remote.remote;
	} else {
		row.remote.be = key->source.remote;
		row.inner_source.be = key->source.inner_source;
	}
	return row;
}

static union row_key key_of(const struct row *row)
{
	union row_key key = { 0 };

	if (row->map == ROW_REMOTES)
		key.remote.remote = row->remote.be;
	else
		key.source = (struct maps_source_key){ row->remote.be, row->inner_source.be };
	return key;
}

/* Ports that are missing make the row differ from any that should be there, so it will be mended. */
static int read_ports(const struct entry_maps *maps, struct row *row)
{
	if (!(row->entry.flags & MAPS_FLAG_SERVER_PORTS))
		return 0;
	if (bpf_map_lookup_elem(maps->server_ports, &row->entry.slot, &row->server_ports) < 0 &&
		errno != ENOENT)
		return -errno;
	return 0;
}

static int read_map(const struct entry_maps *maps, enum row_map map, struct rows *rows)
{
	int fd = map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key, next;
	struct row *slot;

	/* While somebody writes, the walk may start over: the bound ends it, the caller removes twins. */
	for (uint32_t i = 0; i <= 2 * maps->max_rows; i++) {
		struct row row;
		int r;

		if (bpf_map_get_next_key(fd, i == 0 ? NULL : &key, &next) < 0)
			return errno == ENOENT ? 0 : -errno;
		key = next;
		row = row_of(map, &key);
		if (bpf_map_lookup_elem(fd, &key, &row.entry) < 0) {
			if (errno == ENOENT) /* removed between the two calls */
				continue;
			return -errno;
		}
		r = read_ports(maps, &row);
		if (r < 0)
			return r;
		slot = ARRAY_APPEND(rows->list, rows->n);
		if (!slot)
			return -ENOMEM;
		*slot = row;
		rows->n++;
	}
	return -EAGAIN;
}

static void remove_twins(struct rows *rows)
{
	size_t n = 0;

	for (size_t i = 0; i < rows->n; i++)
		if (n == 0 || row_compare(&rows->list[n - 1], &rows->list[i]) != 0)
			rows->list[n++] = rows->list[i];
	rows->n = n;
}

int entry_maps_read(const struct entry_maps *maps, struct rows *ret)
{
	_cleanup_(rows_done) struct rows rows = { 0 };
	int r;

	r = read_map(maps, ROW_REMOTES, &rows);
	if (r < 0)
		return r;
	r = read_map(maps, ROW_SOURCES, &rows);
	if (r < 0)
		return r;
	rows_sort(&rows);
	remove_twins(&rows);
	*ret = rows;
	rows = (struct rows){ 0 };
	return 0;
}

static int zero_slot(const struct entry_maps *maps, uint32_t slot)
{
	static const struct maps_kept_counters no_kept;
	_cleanup_free_ struct maps_direct_counters *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (bpf_map_update_elem(maps->counters, &slot, values, BPF_ANY) < 0 ||
		bpf_map_update_elem(maps->kept, &slot, &no_kept, BPF_ANY) < 0)
		return -errno;
	return 0;
}

/* The ports are there before the row that needs them, and go after it. */
static int upsert(const struct entry_maps *maps, const struct row *row)
{
	int fd = row->map == ROW_REMOTES ? maps->remotes : maps->sources;
	bool has_ports = row->entry.flags & MAPS_FLAG_SERVER_PORTS;
	union row_key key = key_of(row);

	if (has_ports && bpf_map_update_elem(maps->server_ports, &row->entry.slot,
				 &row->server_ports, BPF_ANY) < 0)
		return -errno;
	if (bpf_map_update_elem(fd, &key, &row->entry, BPF_ANY) < 0)
		return -errno;
	if (!has_ports)
		(void)bpf_map_delete_elem(maps->server_ports, &row->entry.slot);
	return 0;
}

static int remove_row(const struct entry_maps *maps, const struct row *row)
{
	int fd = row->map == ROW_REMOTES ? maps->remotes : maps->sources;
	union row_key key = key_of(row);

	if (bpf_map_delete_elem(fd, &key) < 0 && errno != ENOENT)
		return -errno;
	(void)bpf_map_delete_elem(maps->server_ports, &row->entry.slot);
	return 0;
}

int entry_maps_apply(const struct entry_maps *maps, const struct plan_op *op)
{
	int r;

	switch (op->verb) {
	case PLAN_ADD:
		r = zero_slot(maps, op->row.entry.slot);
		return r < 0 ? r : upsert(maps, &op->row);
	case PLAN_CHANGE:
		return upsert(maps, &op->row);
	case PLAN_REMOVE:
		return remove_row(maps, &op->row);
	}
	return -EINVAL;
}

static bool has_client(
	const struct ip4_prefix *prefixes, size_t n, const struct maps_client_key *key)
{
	for (size_t i = 0; i < n; i++)
		if (prefixes[i].length == key->prefix_length &&
			prefixes[i].address.be == key->client)
			return true;
	return false;
}

/* -ENOENT: all that are there are wanted. */
static int find_unwanted_client(const struct entry_maps *maps, const struct ip4_prefix *prefixes,
	size_t n, struct maps_client_key *ret)
{
	struct maps_client_key key, *previous = NULL;

	while (bpf_map_get_next_key(maps->exempt_clients, previous, ret) == 0) {
		if (!has_client(prefixes, n, ret))
			return 0;
		key = *ret;
		previous = &key;
	}
	return -errno;
}

static int remove_clients(
	const struct entry_maps *maps, const struct ip4_prefix *prefixes, size_t n)
{
	struct maps_client_key key;
	int r;

	while ((r = find_unwanted_client(maps, prefixes, n, &key)) == 0)
		if (bpf_map_delete_elem(maps->exempt_clients, &key) < 0)
			return -errno;
	return r == -ENOENT ? 0 : r;
}

int entry_maps_set_clients(
	const struct entry_maps *maps, const struct ip4_prefix *prefixes, size_t n, bool only_add)
{
	const uint8_t value = 1;

	for (size_t i = 0; i < n; i++) {
		struct maps_client_key key = { prefixes[i].length, prefixes[i].address.be };

		if (bpf_map_update_elem(maps->exempt_clients, &key, &value, BPF_ANY) < 0)
			return -errno;
	}
	return only_add ? 0 : remove_clients(maps, prefixes, n);
}

int entry_maps_count(const struct entry_maps *maps, uint32_t slot, struct slot_counters *ret)
{
	_cleanup_free_ struct maps_direct_counters *values = NULL;
	int n_cpus = libbpf_num_possible_cpus();
	struct slot_counters sum = { 0 };

	if (n_cpus < 0)
		return n_cpus;
	values = calloc((size_t)n_cpus, sizeof(*values));
	if (!values)
		return -ENOMEM;
	if (bpf_map_lookup_elem(maps->counters, &slot, values) < 0 ||
		bpf_map_lookup_elem(maps->kept, &slot, &sum.kept) < 0)
		return -errno;
	for (int i = 0; i < n_cpus; i++) {
		sum.direct.packets += values[i].packets;
		sum.direct.bytes += values[i].bytes;
	}
	*ret = sum;
	return 0;
}
