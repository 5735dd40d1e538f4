"""What logging costs a training: MLflow's two ways against the durable one."""
