//! PURE: the text of the cluster.yaml that escli writes for a new cluster.
