/* Asserts the layouts with the test's compilers and the embedded SDK's headers. */
#include <stdio.h>

#include "../../src/sdk/layout.c"

int main(void)
{
    puts("the layouts are those of the ABI: this file compiled");
    return 0;
}
