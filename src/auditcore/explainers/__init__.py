"""Attribution methods: classifier, images and targets to maps."""
