// A port that is a local variable.
void top(int task_id, int &status) {
    int count = task_id;
#pragma HLS INTERFACE mode=s_axilite port=task_id bundle=control
#pragma HLS INTERFACE mode=s_axilite port=count bundle=control  // breaks pragma-variable
#pragma HLS INTERFACE mode=s_axilite port=return bundle=control
    status = count;
}
