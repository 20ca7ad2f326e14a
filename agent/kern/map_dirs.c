/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/kern/map_dirs.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "schema/maps.h"

#define NEXT_SUFFIX "_new"

bool map_dir_parse(const char *name)
{
	size_t n;

	if (name[0] != 'v' || name[1] < '1' || name[1] > '9')
		return false;
	n = 1 + strspn(name + 1, "0123456789");
	return name[n] == '\0' || strcmp(name + n, NEXT_SUFFIX) == 0;
}

static bool is_own(const char *name)
{
	return strcmp(name, MAPS_PIN_ABI_DIR) == 0 ||
	       strcmp(name, MAPS_PIN_ABI_DIR NEXT_SUFFIX) == 0;
}

static int remove_pin(const char *directory, const char *name)
{
	char path[PIN_PATH_MAX + NAME_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int remove_known(const char *directory)
{
	static const char *const maps[] = { "remotes", "sources", "server_ports", "exempt_clients",
		"counters", "kept" };
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTS_OF(maps); i++)
		r = remove_pin(directory, maps[i]);
	return r;
}

/* Only another version knows which names are its own. */
static int remove_everything(const char *directory)
{
	_cleanup_(closedirp) DIR *dir = opendir(directory);
	const struct dirent *entry;
	int r;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((r = file_next_entry(dir, &entry)) > 0) {
		if (entry->d_type == DT_REG)
			r = remove_pin(directory, entry->d_name);
		if (r < 0)
			break;
	}
	return r;
}

static int remove_set(const char *name)
{
	char directory[PIN_PATH_MAX + NAME_MAX];
	int r;

	(void)snprintf(directory, sizeof(directory), "%s/%s", MAPS_PIN_ROOT, name);
	r = is_own(name) ? remove_known(directory) : remove_everything(directory);
	if (r < 0)
		return r;
	return rmdir(directory) < 0 && errno != ENOENT ? -errno : 0;
}

/* Finds one after the other, since what is being read should not be changed. -ENOENT: no more. */
static int find_set(bool own_too, char ret_name[static NAME_MAX + 1])
{
	_cleanup_(closedirp) DIR *dir = opendir(MAPS_PIN_ROOT);
	const struct dirent *entry;
	int r;

	if (!dir)
		return -errno;
	while ((r = file_next_entry(dir, &entry)) > 0)
		if (map_dir_parse(entry->d_name) && (own_too || !is_own(entry->d_name))) {
			(void)snprintf(ret_name, NAME_MAX + 1, "%s", entry->d_name);
			return 0;
		}
	return r < 0 ? r : -ENOENT;
}

static int remove_sets(bool own_too)
{
	char name[NAME_MAX + 1];
	int r;

	while ((r = find_set(own_too, name)) == 0) {
		r = remove_set(name);
		if (r < 0)
			return r;
	}
	return r == -ENOENT ? 0 : r;
}

int map_dirs_have_others(bool *ret)
{
	char name[NAME_MAX + 1];
	int r = find_set(false, name);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret = r == 0;
	return 0;
}

int map_dirs_remove_next(void)
{
	return remove_set(MAPS_PIN_ABI_DIR NEXT_SUFFIX);
}

int map_dirs_promote(void)
{
	int r;

	if (renameat2(AT_FDCWD, MAP_DIR_NEXT, AT_FDCWD, MAP_DIR, RENAME_EXCHANGE) == 0 ||
		rename(MAP_DIR_NEXT, MAP_DIR) == 0)
		return 0;
	if (errno != ENOTEMPTY)
		return -errno;
	/*
	 * Before 5.16 bpffs exchanges nothing. The directory stays until the other has its name: who finds one without its
	 * maps knows that there were some.
	 */
	r = remove_known(MAP_DIR);
	if (r < 0)
		return r;
	return rename(MAP_DIR_NEXT, MAP_DIR) < 0 ? -errno : 0;
}

int map_dirs_remove_others(void)
{
	int r = map_dirs_remove_next();

	return r < 0 ? r : remove_sets(false);
}

int map_dirs_remove(void)
{
	return remove_sets(true);
}
