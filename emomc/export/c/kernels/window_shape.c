/* Maps and a window that moves over them. */
typedef struct {
    int height, width, out_height, out_width;
    int kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x;
    int top, left; /* rows and columns of padding before the first pixel */
} window_shape;
