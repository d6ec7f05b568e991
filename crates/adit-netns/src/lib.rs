//! adit-netns
