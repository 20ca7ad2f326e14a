/* SPDX-License-Identifier: MIT */
/*
 * Gives kept inputs to one target: "replay FILE|DIRECTORY…", one TAP test a file. A target that finds
 * something aborts, and the plan, written first, shows what did not run.
 */

#include <dirent.h>
#include <sys/stat.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1024 * 1024)

struct files {
	char **paths;
	size_t n;
};

static void add(struct files *files, const char *path)
{
	char **slot = ARRAY_APPEND(files->paths, files->n);

	CHECK(slot);
	*slot = strdup(path);
	CHECK(*slot);
	files->n++;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_all(struct files *files, const char *directory)
{
	_cleanup_(closedirp) DIR *dir = opendir(directory);
	struct dirent *entry;

	CHECK(dir);
	while ((entry = readdir(dir))) {
		char path[4096];
		int n = snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);

		CHECK(n > 0 && (size_t)n < sizeof(path));
		if (entry->d_name[0] != '.')
			add(files, path);
	}
}

static void replay(size_t number, const char *path)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ void *exact = NULL;
	size_t size;
	int r = file_read(path, INPUT_MAX, &text, &size);

	(void)fprintf(stderr, "%s\n", path); /* what an abort below is about */
	CHECK(r == 0);
	exact = copy_exactly(text, size);
	(void)LLVMFuzzerTestOneInput(exact, size);
	(void)printf("ok %zu - %s\n", number, strrchr(path, '/') + 1);
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	struct files files = { 0 };

	for (int i = 1; i < argc; i++) {
		struct stat st;

		CHECK(stat(argv[i], &st) == 0);
		if (S_ISDIR(st.st_mode))
			add_all(&files, argv[i]);
		else
			add(&files, argv[i]);
	}
	(void)printf("1..%zu\n", files.n);
	(void)fflush(stdout);
	if (files.n > 0)
		qsort(files.paths, files.n, sizeof(*files.paths), compare);
	for (size_t i = 0; i < files.n; i++)
		replay(i + 1, files.paths[i]);
	for (size_t i = 0; i < files.n; i++)
		free(files.paths[i]);
	free(files.paths);
	return files.n == 0;
}
