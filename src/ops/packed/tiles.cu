// Which rows, which are in the order of their matrices, are multiplied together: of each tile the matrix, the first row
// and the one after the last.
__shared__ int starts[MATRICES + 1];
const int all = count / ROWS + min(MATRICES, count);
for (int matrix = threadIdx.x; matrix <= MATRICES; matrix += blockDim.x) {
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (matrices[middle] < matrix) low = middle + 1;
        else high = middle;
    }
    starts[matrix] = low;
}
__syncthreads();
int total = 0;
for (int matrix = 0; matrix < MATRICES; matrix++) {
    const int first = starts[matrix], end = starts[matrix + 1], needed = (end - first + ROWS - 1) / ROWS;
    for (int i = threadIdx.x; i < needed; i += blockDim.x) {
        int* tile = tiles + 3 * (total + i);
        tile[0] = matrix;
        tile[1] = first + i * ROWS;
        tile[2] = min(first + (i + 1) * ROWS, end);
    }
    total += needed;
}
for (int i = total + threadIdx.x; i < all; i += blockDim.x) {
    for (int j = 0; j < 3; j++) tiles[3 * i + j] = 0;
}
