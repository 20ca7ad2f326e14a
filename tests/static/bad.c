/* SPDX-License-Identifier: MIT */
/* Wrong on purpose: what the analyzers must see, or their silence about the rest means nothing. */
#include <stdlib.h>
#include <string.h>

int bad_free(const char *text);
int bad_index(int i);

int bad_free(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -1;
	free(copy);
	return copy[0];
}

int bad_index(int i)
{
	int list[4] = { 0 };

	list[4] = i;
	return list[4];
}
